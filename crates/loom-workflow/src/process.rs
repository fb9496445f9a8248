//! The resource usage of a process, as far as the system reports it: on Linux, from `/proc` (proc(5)).

use std::fs;

use loom_server::ProcessUsage;

/// Clock ticks per second in `/proc`; 100 on all architectures that Linux supports.
const TICKS_PER_SECOND: f64 = 100.0;

/// The usage of this process. Everything is None on systems other than Linux.
pub(crate) fn usage() -> ProcessUsage {
    let read = |name: &str| fs::read_to_string(format!("/proc/{name}")).unwrap_or_default();
    let open_files = fs::read_dir("/proc/self/fd").map(|entries| entries.count() as u64).ok();
    let mut usage = parse(&read("self/stat"), &read("self/status"), &read("self/limits"), &read("stat"));
    // The directory itself was open while it was read.
    usage.open_files = open_files.map(|count| count.saturating_sub(1));
    usage
}

fn parse(stat: &str, status: &str, limits: &str, system: &str) -> ProcessUsage {
    // The second field is the program's name in parentheses, which may contain spaces; the third follows it.
    let fields: Vec<&str> =
        stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
    let field = |number: usize| fields.get(number.checked_sub(3)?)?.parse::<f64>().ok();
    let line = |text: &str, name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)).map(|rest| rest.trim().to_owned())
    };
    let kibibytes = |name: &str| line(status, name)?.split(' ').next()?.parse::<u64>().ok();
    let booted = line(system, "btime ").and_then(|seconds| seconds.parse::<f64>().ok());
    ProcessUsage {
        cpu_seconds: field(14).zip(field(15)).map(|(user, system)| (user + system) / TICKS_PER_SECOND),
        start_time_seconds: booted.zip(field(22)).map(|(booted, ticks)| booted + ticks / TICKS_PER_SECOND),
        resident_bytes: kibibytes("VmRSS:").map(|count| count << 10),
        virtual_bytes: kibibytes("VmSize:").map(|count| count << 10),
        open_files: None,
        open_files_max: line(limits, "Max open files").and_then(|rest| rest.split(' ').next()?.parse().ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_proc_are_parsed() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 4 0 2000 123 45";
        let status = "Name:\tloom\nVmSize:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max open files            1024                 4096                 files\n";
        let usage = parse(stat, status, limits, "cpu 1 2\nbtime 1700000000\n");
        let expected = ProcessUsage {
            cpu_seconds: Some(2.0),
            start_time_seconds: Some(1_700_000_020.0),
            resident_bytes: Some(1 << 20),
            virtual_bytes: Some(2 << 20),
            open_files: None,
            open_files_max: Some(1_024),
        };
        assert_eq!(usage, expected);
        assert_eq!(parse("", "", "", ""), ProcessUsage::default());
    }
}
