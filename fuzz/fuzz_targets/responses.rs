//! Fuzzes `aibridge_fuzz::responses`; a build that is not instrumented replays the files it is
//! given.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| aibridge_fuzz::responses::target(data));

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    aibridge_fuzz::replay(aibridge_fuzz::responses::target)
}
