//! A serial stream: its word, what its owner keeps, and the life of its messages.
//!
//! # The life of one message
//! 1. *Admission*: `execute` takes an idle stream and becomes its owner, or pushes a cell; `submit`
//!    pushes. Whoever made the stream non-idle by a push puts it into a lane.
//! 2. *Start*: on the caller, or on the worker that found the stream in a lane.
//! 3. *Pending*: the handler waits; the stream is parked, and its waker puts it into a lane.
//! 4. *Handled*: the future is dropped, the outcome counted, the completion resolved.
//! 5. The owner takes the next cell, or lets the stream go.
//!
//! # Invariants
//! - I1. Ownership is that of `strand_word`; `taken`, `current`, `ready` and the state are the
//!   owner's alone.
//! - I2. While a stream is in a lane, being run by a worker, or parked, one strong count of its
//!   `Arc` belongs to that: `schedule` and `park_inline` take it, `run` gives it up or passes it on.
//! - I3. During a caller-run the caller's own `Arc` keeps the stream.
//! - I4. The state is made before a context sees it, and dropped only between messages or with the
//!   stream.

mod due;
mod in_line;
mod inline;
mod owner;
mod queue;
mod scope;

use std::cell::{Cell as StdCell, UnsafeCell};
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr::{self, NonNull};
use std::sync::Arc;

pub use self::in_line::Verdict;
pub use self::inline::Started;
pub use self::queue::Draft;
use self::scope::Control;
pub(crate) use self::scope::StrandScope;
use crate::cell::{Cell, Header, drop_quietly, expose, link_to};
use crate::error::CallChain;
use crate::frame;
use crate::lane::{Link, LinkVTable};
use crate::room::Room;
use crate::serial_shared::SerialShared;
use crate::strand_word::{LetGo, StrandWord};
use crate::sync::{AtomicU64, Ordering};

/// How deep caller-runs nest on one thread before messages are queued instead.
pub const INLINE_DEPTH: u32 = if cfg!(executor_tiny) { 1 } else { 16 };

/// What a serial executor tells the core about one of its streams.
pub trait StreamOwner: Send + Sync + 'static {
    /// What the stream keeps between messages.
    type State: Send + 'static;
    /// What all streams of the executor share.
    fn shared(&self) -> &Arc<SerialShared>;
    /// Makes the state: at the stream's first message, after a panic, and after a sweep.
    ///
    /// # Errors
    /// The text fails the message that needed the state, and no other.
    fn make_state(&self) -> Result<Self::State, String>;
    /// The stream's name in errors.
    fn label(&self) -> String;
}

/// The part of a stream whose type does not depend on its owner.
#[repr(C)]
pub(crate) struct Head {
    link: Link,
    word: StrandWord,
    /// Queued cells that the owner took, oldest first.
    taken: StdCell<*mut Header>,
    /// The started message.
    current: StdCell<*mut Header>,
    /// Whether the state exists.
    ready: StdCell<bool>,
    /// Messages queued and not started.
    room: Room,
    /// Handlers that returned `Ok`; written by the owner alone.
    handled: AtomicU64,
    /// The owner's, for those who know only the head. Dropped by the strand's drop.
    shared: ManuallyDrop<Arc<SerialShared>>,
}

impl Head {
    /// Counts messages whose handlers returned `Ok`; for the owner.
    #[inline]
    fn count_handled(&self, messages: u64) {
        // Only the owner writes: no read-modify-write is needed.
        let handled = self.handled.load(Ordering::Relaxed) + messages;
        self.handled.store(handled, Ordering::Relaxed);
    }
}

#[repr(C)]
struct StrandVTable {
    link: LinkVTable,
    hold: unsafe fn(NonNull<Head>),
    unhold: unsafe fn(NonNull<Head>),
    prepare: unsafe fn(NonNull<Head>) -> Result<(), String>,
    forget_state: unsafe fn(NonNull<Head>),
    label: unsafe fn(*const ()) -> String,
}

/// A serial stream with its state and its owner's part; always behind an [`Arc`].
#[repr(C)]
pub struct Strand<O: StreamOwner> {
    head: Head,
    /// Initialised iff `ready` is set.
    state: UnsafeCell<MaybeUninit<O::State>>,
    /// Dropped by the strand's drop, under a guard: the last to have the strand may be a worker.
    owner: ManuallyDrop<O>,
}

// SAFETY: the plain fields and the state belong to one owner at a time (I1), who may be on any
// thread, for which `O::State: Send` suffices; the rest is atomic or `Sync`.
unsafe impl<O: StreamOwner> Send for Strand<O> {}
// SAFETY: as above.
unsafe impl<O: StreamOwner> Sync for Strand<O> {}

impl<O: StreamOwner> Strand<O> {
    const VTABLE: &'static StrandVTable = &StrandVTable {
        link: LinkVTable { run: Self::run },
        // SAFETY: in all of these: the head is the first field of a strand in an `Arc`, and the
        // callers keep it alive.
        hold: |head| unsafe { Arc::increment_strong_count(head.cast::<Self>().as_ptr()) },
        // SAFETY: as above.
        unhold: |head| unsafe { Arc::decrement_strong_count(head.cast::<Self>().as_ptr()) },
        // SAFETY: as above.
        prepare: |head| unsafe { head.cast::<Self>().as_ref() }.make_state(),
        // SAFETY: as above.
        forget_state: |head| unsafe { head.cast::<Self>().as_ref() }.forget_state(),
        // SAFETY: as above.
        label: |head| unsafe { &*head.cast::<Self>() }.owner.label(),
    };

    /// A new idle stream.
    #[must_use]
    pub fn new(owner: O) -> Arc<Self> {
        let vtable = ptr::from_ref(Self::VTABLE).cast::<LinkVTable>();
        let strand = Self {
            head: Head {
                link: Link {
                    next: StdCell::new(ptr::null_mut()),
                    vtable,
                },
                word: StrandWord::new(),
                taken: StdCell::new(ptr::null_mut()),
                current: StdCell::new(ptr::null_mut()),
                ready: StdCell::new(false),
                room: Room::new(),
                handled: AtomicU64::new(0),
                shared: ManuallyDrop::new(Arc::clone(owner.shared())),
            },
            state: UnsafeCell::new(MaybeUninit::uninit()),
            owner: ManuallyDrop::new(owner),
        };
        if strand.owner.shared().is_closed() {
            strand.head.word.close();
        }
        Arc::new(strand)
    }

    /// What the executor keeps with the stream.
    pub fn owner(&self) -> &O {
        &self.owner
    }

    /// Messages queued and not started.
    pub fn depth(&self) -> usize {
        self.head.room.depth()
    }

    /// Whether a message is queued, running or waiting.
    pub fn is_busy(&self) -> bool {
        self.head.word.is_busy()
    }

    /// Handlers that returned `Ok` so far.
    pub fn handled(&self) -> u64 {
        self.head.handled.load(Ordering::Relaxed)
    }

    /// Moves what an idle stream has counted to the executor's counts, before it is evicted.
    pub fn settle_counts(&mut self) {
        let handled = self.head.handled.swap(0, Ordering::Relaxed);
        self.owner.shared().counters().add_handled(handled);
    }

    /// Drops the state of an idle stream that only `keepers` hold, in its turn: a message that comes
    /// meanwhile waits, and then starts from fresh state.
    pub fn retire_state(self: &Arc<Self>, keepers: usize) {
        if self.head.word.try_own() {
            // Looked at in its turn: who has a handle by now may have seen the state, and who takes one
            // later has not.
            if Arc::strong_count(self) == keepers {
                self.forget_state();
            }
            self.let_go();
        }
    }

    /// Whether nothing would be lost with the stream: it is idle, and has no state or no future.
    pub fn is_spent(&mut self) -> bool {
        !self.head.word.is_busy() && (!self.head.ready.get() || self.head.word.is_closed())
    }

    /// Refuses messages from now on.
    pub fn close(&self) {
        self.head.word.close();
    }

    /// Makes a waiting handler run, to see that it is aborted.
    pub fn kick(self: &Arc<Self>) {
        if self.head.word.wake() {
            self.schedule_parked();
        }
    }

    /// Queues `call` behind what the stream has, closed or not; false: it is idle, and `call` is
    /// dropped.
    pub fn after_queued<C: FnOnce() + Send + 'static>(self: &Arc<Self>, call: C) -> bool {
        let scope = self.scope(0);
        let cell = Cell::<Control<C>>::with_job(Control(call), scope, false);
        let pushed = self
            .head
            .word
            .push_if_busy(expose(cell), |older| link_to(cell, older));
        if !pushed {
            // SAFETY: it was not pushed, so nobody else has it.
            drop(unsafe { Cell::<Control<C>>::into_job(cell) });
        }
        pushed
    }

    fn head_ptr(self: &Arc<Self>) -> NonNull<Head> {
        // From the `Arc`, so that the pointer may be used for the whole strand.
        // SAFETY: `Arc::as_ptr` is never null.
        unsafe { NonNull::new_unchecked(Arc::as_ptr(self).cast_mut().cast()) }
    }

    #[inline]
    fn scope(self: &Arc<Self>, generation: u32) -> StrandScope {
        StrandScope::new(self.head_ptr(), generation)
    }

    fn name(self: &Arc<Self>) -> StreamName {
        StreamName(self.head_ptr())
    }

    /// The chain, if this thread's handlers run under this stream.
    #[inline]
    fn reentered(self: &Arc<Self>) -> Option<CallChain> {
        frame::chain_through(self.name())
    }

    /// The drain generation of a message that a handler of this executor admits here: the handler's.
    fn inherited(&self) -> Option<u32> {
        frame::inherited_generation(self.owner.shared().environment())
    }

    pub(crate) fn leave_room(&self) {
        self.owner.shared().room().leave(&self.head.room, 1);
    }

    pub(crate) fn room(&self) -> &Room {
        &self.head.room
    }

    /// Puts the stream, which the caller owns, into a lane.
    fn schedule(self: &Arc<Self>) {
        let _ = Arc::into_raw(Arc::clone(self));
        self.push_to_lane();
    }

    /// The same for a stream that was parked, whose count passes on (I2).
    fn schedule_parked(self: &Arc<Self>) {
        self.push_to_lane();
    }

    fn push_to_lane(self: &Arc<Self>) {
        self.owner
            .shared()
            .core()
            .push_admitted(self.head_ptr().cast());
    }

    /// Lets the stream go after a caller-run, or gives what was queued meanwhile to the workers.
    #[inline]
    fn let_go(self: &Arc<Self>) {
        match self.head.word.let_go() {
            LetGo::Idle => {}
            LetGo::Over => self.let_workers_go(),
            LetGo::Kept => self.schedule(),
        }
    }

    /// The workers of a closed core may have stayed for this stream alone.
    #[cold]
    fn let_workers_go(&self) {
        self.owner.shared().core().check_exit();
    }

    // ---- the state --------------------------------------------------------------------------

    fn make_state(&self) -> Result<(), String> {
        let state = self.owner.make_state()?;
        // SAFETY: I1: the owner calls this, between messages.
        unsafe { self.state.get().cast::<O::State>().write(state) };
        self.head.ready.set(true);
        Ok(())
    }

    fn forget_state(&self) {
        if self.head.ready.replace(false) {
            // SAFETY: I1 and I4: the owner calls this when the context is gone.
            drop_quietly(unsafe { self.state.get().cast::<O::State>().read() });
        }
    }
}

impl<O: StreamOwner> Drop for Strand<O> {
    fn drop(&mut self) {
        // A stream with messages is held by its lane or its waker; only one whose handler dropped
        // all its wakers, or that was never run because its core is gone, gets here with any.
        let cells = [self.head.current.get(), self.head.taken.get()];
        debug_assert!(
            cells.iter().all(|cell| cell.is_null()),
            "a dropped stream is idle"
        );
        self.settle_counts();
        self.forget_state();
        // SAFETY: dropped once, here, and not used any more.
        drop_quietly(unsafe { ManuallyDrop::take(&mut self.owner) });
        // SAFETY: as above.
        drop_quietly(unsafe { ManuallyDrop::take(&mut self.head.shared) });
    }
}

impl<O: StreamOwner> std::fmt::Debug for Strand<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream")
            .field("name", &self.owner.label())
            .field("depth", &self.depth())
            .field("busy", &self.is_busy())
            .field("handled", &self.handled())
            .finish()
    }
}

/// # Safety
/// `home` is not null.
unsafe fn head_of(home: *const ()) -> NonNull<Head> {
    // SAFETY: as the caller says.
    unsafe { NonNull::new_unchecked(home.cast_mut().cast()) }
}

/// The state of the stream `home`.
///
/// # Safety
/// `home` is that of a message of a live stream whose state is an `S`.
pub(crate) unsafe fn state_of<S>(home: *const ()) -> NonNull<S> {
    // `Strand` is `repr(C)`: the state follows the head at its own alignment.
    let offset = size_of::<Head>().next_multiple_of(align_of::<S>());
    // SAFETY: as the caller says.
    let head = unsafe { head_of(home) };
    // SAFETY: heads are pointed at with the provenance of their whole strand.
    unsafe { head.byte_add(offset) }.cast()
}

fn vtable_of(head: NonNull<Head>) -> &'static StrandVTable {
    // SAFETY: heads are passed about only while their strand is alive.
    let vtable = unsafe { head.as_ref() }.link.vtable.cast::<StrandVTable>();
    // SAFETY: every strand's link points at a whole `StrandVTable` in a static.
    unsafe { &*vtable }
}

/// A stream's identity, from which its name can be had.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct StreamName(NonNull<Head>);

impl StreamName {
    /// # Safety
    /// The stream is alive.
    pub(crate) unsafe fn label(self) -> String {
        // SAFETY: as the caller says.
        unsafe { (vtable_of(self.0).label)(self.0.as_ptr().cast_const().cast()) }
    }
}
