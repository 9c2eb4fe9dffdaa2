//! How a process takes memory from the system.

/// Takes small pages alone, from here on. Whoever holds many short-lived buffers and nothing large touches a little of each huge page and
/// keeps all of it; whoever goes over a large index gains by huge pages.
pub fn small_pages() {
    #[cfg(target_os = "linux")]
    {
        const NONE: libc::c_ulong = 0;
        const SMALL: libc::c_ulong = 1;
        // SAFETY: takes numbers and touches no memory. A refusal changes nothing.
        unsafe {
            libc::prctl(libc::PR_SET_THP_DISABLE, SMALL, NONE, NONE, NONE);
        }
    }
}
