//! What a message keeps of its stream in its cell.

use std::cell::Cell as StdCell;
use std::ptr::NonNull;

use super::{Head, StreamName, head_of, vtable_of};
use crate::cell::{Header, Job, Scope, catch, forget_payload};
use crate::envelope::Envelope;
use crate::environment::Environment;
use crate::error::Failure;
use crate::lane::Link;
use crate::message::MessageScope;
use crate::metrics::Outcome;
use crate::serial_shared::SerialShared;
use crate::worker::Turn;

/// A closure of the framework's own, in its turn among the messages.
pub(super) struct Control<F>(pub(super) F);

impl<F: FnOnce() + Send + 'static> Job for Control<F> {
    type Value = ();
    type Error = std::convert::Infallible;
    type Message = ();
    type Future = std::future::Ready<Result<(), std::convert::Infallible>>;
    type Scope = StrandScope;
    const CONTROL: bool = true;

    fn begin(self, _: NonNull<Header>, _: &StrandScope) -> Result<Self::Future, Failure> {
        (self.0)();
        Ok(std::future::ready(Ok(())))
    }

    fn into_message(self) -> Envelope<()> {
        Envelope::new(())
    }
}

/// What a message keeps of its stream.
#[repr(C)]
pub(crate) struct StrandScope {
    pub(super) head: NonNull<Head>,
    /// The drain generation; that of a delayed message is set when it is admitted.
    pub(super) generation: StdCell<u32>,
}

// With an envelope of a word, an async handler with a word of its own, and its context: a block of 128
// bytes.
const _: () = assert!(size_of::<StrandScope>() <= 16);

impl StrandScope {
    pub(super) const fn new(head: NonNull<Head>, generation: u32) -> Self {
        Self {
            head,
            generation: StdCell::new(generation),
        }
    }

    pub(super) fn head(&self) -> &Head {
        // SAFETY: a message's stream lives while the message is not handled.
        unsafe { self.head.as_ref() }
    }

    fn shared(&self) -> &SerialShared {
        &self.head().shared
    }
}

impl Scope for StrandScope {
    const OWNER_COUNTS: bool = true;

    fn home(&self) -> *const () {
        self.head.as_ptr().cast_const().cast()
    }

    unsafe fn hold(home: *const ()) {
        // SAFETY: the home is the head of a live strand.
        let head = unsafe { head_of(home) };
        // SAFETY: as above.
        unsafe { (vtable_of(head).hold)(head) };
    }

    unsafe fn unhold(home: *const ()) {
        // SAFETY: the home is the head of a live strand.
        let head = unsafe { head_of(home) };
        // SAFETY: balances `hold`.
        unsafe { (vtable_of(head).unhold)(head) };
    }

    unsafe fn wake(_: NonNull<Header>, home: *const ()) {
        // SAFETY: the caller keeps the home alive.
        let head = unsafe { head_of(home) };
        // SAFETY: as above.
        if unsafe { head.as_ref() }.word.wake() {
            // SAFETY: as above. The parked stream's count passes on to the lane (Strand, I2).
            let shared = unsafe { &head.as_ref().shared };
            shared.core().push_admitted(head.cast());
        }
    }

    unsafe fn stream(home: *const ()) -> Option<StreamName> {
        NonNull::new(home.cast_mut().cast::<Head>()).map(StreamName)
    }

    fn environment(&self) -> *const Environment {
        self.shared().environment()
    }

    fn generation(&self) -> u32 {
        self.generation.get()
    }

    #[inline]
    fn retire(&self, outcome: Outcome) {
        if outcome == Outcome::Value {
            self.head().count_handled(1);
        } else {
            self.retire_failed(outcome);
        }
    }

    unsafe fn run(_: NonNull<Link>, _: &Turn<'_>) {
        unreachable!("a stream's messages are run by the stream");
    }
}

impl StrandScope {
    #[cold]
    fn retire_failed(&self, outcome: Outcome) {
        self.shared().counters().count(outcome);
        if outcome == Outcome::Panicked {
            // SAFETY: the message's stream lives, and we are its owner.
            unsafe { (vtable_of(self.head).forget_state)(self.head) };
            // The name and the log are the user's: a panic in them must not cost the stream.
            let told = catch(|| {
                // SAFETY: the message's stream lives.
                let stream = unsafe { StreamName(self.head).label() };
                tracing::error!(
                    stream,
                    "a handler panicked: its stream starts from fresh state"
                );
            });
            if let Err(panic) = told {
                forget_payload(panic.into_payload());
            }
        }
    }

    #[cold]
    fn make_state(&self) -> Result<(), String> {
        // SAFETY: the message's stream lives, and we are its owner.
        unsafe { (vtable_of(self.head).prepare)(self.head) }
    }
}

impl MessageScope for StrandScope {
    #[inline]
    fn prepare(&self) -> Result<bool, String> {
        if self.head().ready.get() {
            Ok(false)
        } else {
            self.make_state().map(|()| true)
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;

    use super::StrandScope;
    use crate::cell::Cell;
    use crate::context::PolicyContext;
    use crate::envelope::Envelope;
    use crate::message::Message;

    fn bytes<H, F>(_: H) -> usize
    where
        H: FnOnce(Envelope<u64>, PolicyContext) -> F + Send + 'static,
        F: Future<Output = Result<u64, Infallible>> + Send + 'static,
    {
        size_of::<Cell<Message<u64, H, (), StrandScope>>>()
    }

    #[test]
    fn a_message_with_an_async_handler_and_a_word_of_its_own_is_128_bytes() {
        let own = Arc::new(7_u64);
        let handler = move |message: Envelope<u64>, context: PolicyContext| async move {
            tokio::task::yield_now().await;
            drop(context);
            Ok(message.payload + *own)
        };
        assert!(bytes(handler) <= 128);
    }
}
