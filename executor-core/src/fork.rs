//! What a child process does before anything else runs in it.
//!
//! The child of a `fork` has one thread, and the memory of its parent with all locks as they were. So
//! what is called there takes no lock and allocates nothing.

/// Has `call` run in every child process, on the thread that has forked.
///
/// Where it cannot be had, as under Miri, nothing forks either.
pub(crate) fn in_each_child(call: unsafe extern "C" fn()) {
    #[cfg(all(unix, not(miri)))]
    {
        // SAFETY: the function outlives the process' children, as code does.
        let refused = unsafe { libc::pthread_atfork(None, None, Some(call)) };
        if refused != 0 {
            tracing::warn!(
                refused,
                "child processes share what tells this process apart: no memory"
            );
        }
    }
    #[cfg(not(all(unix, not(miri))))]
    let _ = call;
}
