//! Processes by the names of their programs.

use std::fs;

/// The processes that run one of these programs, by the name of the file that was started; this process and the
/// workers of a storm are not among them.
#[must_use]
pub fn of_programs(programs: &[String]) -> Vec<u32> {
    if programs.is_empty() {
        return Vec::new();
    }
    let me = std::process::id();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let mut found: Vec<u32> =
        pids.filter(|pid| *pid != me && program(*pid).is_some_and(|name| programs.contains(&name))).collect();
    found.sort_unstable();
    found
}

/// The first argument's last part. `comm` would do but for its 15 characters.
fn program(pid: u32) -> Option<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let first = line.split(|byte| *byte == 0).next().filter(|first| !first.is_empty())?;
    let path = String::from_utf8_lossy(first).into_owned();
    path.rsplit('/').next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_programs_but_not_itself() {
        assert!(of_programs(&[]).is_empty());
        let me = program(std::process::id()).unwrap();
        assert!(!of_programs(&[me]).contains(&std::process::id()));
        assert!(of_programs(&["no such program".into()]).is_empty());
    }
}
