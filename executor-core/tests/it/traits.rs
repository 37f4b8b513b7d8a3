//! What may change threads, and what may not.

use std::cell::Cell;
use std::io;
use std::marker::PhantomData;
use std::rc::Rc;

use executor_core::{
    Batch, BuildError, Callbacks, Completion, Delayed, Envelope, ExecuteError, Failure, Interval,
    JoinAll, Panic, PolicyContext, Rejected, Schedule, Sleep, Trail, VirtualClock, WorkerCore,
};

/// What a type is unless it is known to be more.
trait Otherwise {
    const SEND: bool = false;
    const SYNC: bool = false;
}

struct IsSend<T>(PhantomData<T>);
struct IsSync<T>(PhantomData<T>);

impl<T> Otherwise for IsSend<T> {}
impl<T> Otherwise for IsSync<T> {}

impl<T: Send> IsSend<T> {
    const SEND: bool = true;
}

impl<T: Sync> IsSync<T> {
    const SYNC: bool = true;
}

/// Whether each type is `Send` and `Sync`, in this order.
macro_rules! assert_traits {
    ($($type:ty: $send:literal, $sync:literal;)*) => {
        $(assert_eq!(
            (IsSend::<$type>::SEND, IsSync::<$type>::SYNC),
            ($send, $sync),
            stringify!($type)
        );)*
    };
}

#[test]
fn what_holds_users_values_changes_threads_as_they_do() {
    type Error = io::Error;
    assert_traits! {
        Completion<Cell<u8>, Error, u8>: true, true;
        Completion<Rc<u8>, Error, u8>: false, false;
        Completion<u8, Rc<u8>, u8>: false, false;
        Completion<u8, Error, Rc<u8>>: false, false;
        Delayed<Cell<u8>, Error, u8>: true, true;
        Delayed<Rc<u8>, Error, u8>: false, false;
        JoinAll<Cell<u8>, Error, u8>: true, false;
        JoinAll<Rc<u8>, Error, u8>: false, false;
        PolicyContext<Cell<u8>>: true, true;
        PolicyContext<Rc<u8>>: false, false;
        Envelope<Cell<u8>>: true, false;
        Envelope<Rc<u8>>: false, false;
        Rejected<Envelope<u8>>: true, true;
        Rejected<Rc<u8>>: false, false;
        Failure<Error>: true, true;
        Failure<Rc<u8>>: false, false;
        ExecuteError<u8, Error>: true, true;
        ExecuteError<Rc<u8>, Error>: false, false;
        Batch<u8, Error, Rc<u8>>: false, false;
    }
}

#[test]
fn handles_and_clocks_may_be_used_anywhere() {
    assert_traits! {
        WorkerCore: true, true;
        Callbacks: true, true;
        Schedule: true, true;
        Sleep: true, true;
        Interval: true, true;
        VirtualClock: true, true;
        Panic: true, true;
        Trail: true, true;
        BuildError: true, true;
    }
}
