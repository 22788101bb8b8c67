//! The journal on a disk that hangs.

use std::{fs::File, future::poll_fn, os::fd::OwnedFd};

use tokio::runtime::Builder;

use super::{
    super::tests::{id, started, whole},
    *,
};

/// A pipe that nobody reads is a disk that hangs.
#[test]
fn nobody_waits_for_ever_for_a_write_that_does_not_return() {
    let (mut reader, writer) = io::pipe().unwrap();
    let files = Files::One(File::from(OwnedFd::from(writer)));
    let patience = Duration::from_millis(50);
    let journal = Journal::start_with(files, Texts::Kept, None, patience).unwrap();
    let full = journal.full();
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        tokio::spawn(Arc::clone(&journal).usher());
        yield_now().await;
        journal.keep(&started(id(1), &"m".repeat(1 << 20)));
        for _ in 0..2 {
            let mark = journal.mark();
            poll_fn(|context| journal.poll_commit(context, mark)).await;
            assert!(*full.borrow(), "it is told");
        }
        assert!(!journal.has_written(1));
        for record in whole(2, 1, "alice") {
            journal.keep(&record);
        }
        assert_eq!(journal.counts(false).1, 0, "what is known is held");

        // The disk is back.
        let drain = thread::spawn(move || io::copy(&mut reader, &mut io::sink()));
        let mut sound = journal.full();
        sound.wait_for(|full| !full).await.unwrap();
        assert!(journal.has_written(1));
        journal.close();
        drop(journal);
        drop(drain);
    });
}
