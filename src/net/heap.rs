//! What a program may ask of its allocator, so that what it lets go of is not resident any longer.
//!
//! Never called by the library: the allocator is the host's. Where the C library is not glibc nothing happens.

#![cfg_attr(
    all(target_os = "linux", target_env = "gnu"),
    expect(unsafe_code, reason = "the two calls have no safe wrapper; neither takes or returns a pointer")
)]

/// Each buffer of at least so many bytes is given back to the system when it is freed. By default glibc keeps what is
/// smaller than the largest buffer that was ever freed, up to 32 MiB, among all that is small, and what lies between
/// is of no use for a large one.
///
/// To be called before the first thread is started.
pub fn map_from(bytes: usize) {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if let Ok(bytes) = libc::c_int::try_from(bytes) {
        for (parameter, value) in [(libc::M_MMAP_THRESHOLD, bytes), (libc::M_MMAP_MAX, MAPPED_MAX)] {
            // SAFETY: mallopt reads two numbers and sets a parameter of the allocator's own under its lock.
            unsafe { libc::mallopt(parameter, value) };
        }
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    let _ = bytes;
}

/// Gives the pages back that hold nothing. The other threads allocate meanwhile, but one arena after the other is
/// locked for some milliseconds.
pub fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim takes the allocator's own locks, and gives back only pages of memory that is free.
    unsafe {
        libc::malloc_trim(0)
    };
}

/// Half of what Linux lets a process map by default: the other maps of a host are not stood in the way of.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED_MAX: libc::c_int = 32_768;
