//! What the server asks of the system for itself. Without it, it serves as well, only with more
//! memory and fewer clients.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::debug;

/// Asks, before anything is served.
pub(crate) fn prepare() {
    #[cfg(target_os = "linux")]
    refuse_huge_pages();
    raise_open_files();
}

/// Of each huge page that the kernel makes, all 2 MiB are resident, minutes after its first byte
/// was used, so that memory seems to leak. Small requests and streams are served no faster with
/// them; one with a body of 1 MiB takes some 9 % less CPU time.
#[cfg(target_os = "linux")]
fn refuse_huge_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        debug!(%error, "huge pages cannot be refused");
    }
}

/// A request takes two descriptors, its client's and its upstream's, and the soft limit is often
/// 1024, for the sake of programs that use `select`.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    // Where there is nothing to raise, a sandbox that kills whoever tries is not tried.
    if limit.current == limit.maximum {
        return;
    }
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        debug!(%error, "the limit of open files stays as it is");
    }
}
