//! Waiting until what was kept is written.

use tokio::{runtime::Builder, task::yield_now, time::timeout};

use super::*;

#[test]
fn whoever_waits_is_woken_with_an_usher_or_without() {
    let folder = Folder::new("usher");
    let sound = folder.0.join("records.jsonl");
    for file in [sound.clone(), "/dev/full".into()] {
        for is_ushered in [true, false] {
            let place = Place::Jsonl(file.clone());
            let recorder = Arc::new(Recorder::open(&records(place)).unwrap());
            let runtime = Builder::new_current_thread().enable_time().build();
            runtime.unwrap().block_on(async {
                if is_ushered {
                    tokio::spawn(recorder.usher());
                    yield_now().await;
                }
                let waits = (0..20).map(|seed| {
                    let recorder = Arc::clone(&recorder);
                    tokio::spawn(async move {
                        for record in whole(seed, 1_000, "alice") {
                            recorder.keep(record);
                        }
                        let mark = recorder.mark();
                        poll_fn(|context| recorder.poll_commit(context, mark)).await;
                    })
                });
                for wait in waits.collect::<Vec<_>>() {
                    timeout(Duration::from_secs(30), wait)
                        .await
                        .expect("it is woken")
                        .unwrap();
                }
            });
            if file == sound {
                assert_eq!(recorder.counts(), Counts::default(), "all is written");
            }
            recorder.close();
        }
    }
    let text = fs::read_to_string(&sound).unwrap();
    assert_eq!(text.matches(r#"{"ended":"#).count(), 40);
}
