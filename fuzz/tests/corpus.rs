//! Every target holds over its corpus, regressions included.

use std::{fs, path::Path};

use aibridge_fuzz::TARGETS;

#[test]
fn every_target_holds_over_its_corpus() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, target) in TARGETS {
        let files = fs::read_dir(corpora.join(name)).expect("a corpus of its own");
        let mut count = 0;
        for file in files {
            let path = file.expect("an entry").path();
            let data = fs::read(&path).expect("a readable file");
            eprintln!("{}", path.display());
            target(&data);
            count += 1;
        }
        assert!(count > 0, "the corpus of {name} is empty");
    }
}

#[test]
fn every_target_can_be_fuzzed() {
    let bins = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz_targets");
    let mut names: Vec<_> = fs::read_dir(bins)
        .expect("targets")
        .map(|file| file.expect("an entry").path())
        .map(|path| {
            path.file_stem()
                .expect("a name")
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    assert_eq!(names, TARGETS.map(|(name, _)| name));
}
