//! Fuzzes `aibridge_fuzz::requests`; a build that is not instrumented replays the files it is
//! given.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| aibridge_fuzz::requests::target(data));

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    aibridge_fuzz::replay(aibridge_fuzz::requests::target)
}
