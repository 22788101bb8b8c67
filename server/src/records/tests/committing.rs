//! Waiting until what was kept is written.

use tokio::{
    runtime::Builder,
    task::{JoinSet, yield_now},
    time::timeout,
};

use super::*;

#[test]
fn whoever_waits_is_woken_with_an_usher_or_without() {
    let folder = Folder::new("usher");
    let sound = folder.0.join("records.jsonl");
    for file in [sound.clone(), "/dev/full".into()] {
        for (is_ushered, mut builder) in [
            (true, Builder::new_current_thread()),
            (true, Builder::new_multi_thread()),
            (false, Builder::new_multi_thread()),
        ] {
            let place = Place::Jsonl(file.clone());
            let recorder = Arc::new(Recorder::open(&records(place)).unwrap());
            let runtime = builder.worker_threads(3).enable_time().build();
            runtime.unwrap().block_on(async {
                if is_ushered {
                    tokio::spawn(recorder.usher());
                    yield_now().await;
                }
                let mut waits = JoinSet::new();
                for seed in 0..20 {
                    let recorder = Arc::clone(&recorder);
                    waits.spawn(async move {
                        for record in whole(seed, 1_000, "alice") {
                            recorder.keep(record);
                        }
                        let mark = recorder.mark();
                        poll_fn(|context| recorder.poll_commit(context, mark)).await;
                    });
                }
                let all = timeout(Duration::from_secs(30), waits.join_all());
                all.await.expect("each is woken");
            });
            if file == sound {
                assert_eq!(recorder.counts(), Counts::default(), "all is written");
            }
            recorder.close();
        }
    }
    let text = fs::read_to_string(&sound).unwrap();
    assert_eq!(text.matches(r#"{"ended":"#).count(), 60);
}
