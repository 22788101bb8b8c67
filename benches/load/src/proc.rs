//! What the kernel knows of a process: CPU time and resident memory, from `/proc` (Linux, proc(5)).

use std::{fs, io};

/// CPU nanoseconds that these processes have used, all threads.
///
/// `/proc/PID/task/*/schedstat` counts nanoseconds, where `utime` and `stime` of `/proc/PID/stat`
/// count ticks of 10 ms; it leaves out threads that have ended, of which a proxy at work has none.
pub fn cpu_nanos(pids: &[u32]) -> io::Result<u64> {
    let mut sum = 0;
    for pid in pids {
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let path = task?.path().join("schedstat");
            let text = fs::read_to_string(path)?;
            sum += number(text.split_whitespace().next())?;
        }
    }
    Ok(sum)
}

/// Resident bytes of these processes together.
pub fn resident_bytes(pids: &[u32]) -> io::Result<u64> {
    let mut sum = 0;
    for pid in pids {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        sum += number(line.and_then(|line| line.split_whitespace().next()))? * 1024;
    }
    Ok(sum)
}

fn number(word: Option<&str>) -> io::Result<u64> {
    word.and_then(|word| word.parse().ok())
        .ok_or_else(|| io::Error::other("a number expected in /proc"))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_works_uses_cpu_and_memory() {
        let me = [std::process::id()];
        let before = cpu_nanos(&me).unwrap();
        let mut sum = 0_u64;
        for round in 0..50_000_000_u64 {
            sum = std::hint::black_box(sum ^ round);
        }
        std::thread::yield_now();
        assert!(cpu_nanos(&me).unwrap() > before, "{sum}");
        assert!(resident_bytes(&me).unwrap() > 64 * 1024);
    }
}
