//! What processes have used, by proc(5).

use std::fs;

/// Processor time and memory of a process group.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Usage {
    pub(super) user_s: f64,
    pub(super) system_s: f64,
    /// The most that was resident at once, of the largest process.
    pub(super) peak_bytes: u64,
}

impl Usage {
    /// Of all processes of a group that live now.
    pub(super) fn of_group(group: u32) -> Self {
        let mut sum = Self::default();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            if let Some(one) = of_process(id, group) {
                sum.user_s += one.user_s;
                sum.system_s += one.system_s;
                sum.peak_bytes = sum.peak_bytes.max(one.peak_bytes);
            }
        }
        sum
    }

    /// What was used since an earlier reading.
    pub(super) fn since(self, earlier: Self) -> Self {
        Self {
            user_s: self.user_s - earlier.user_s,
            system_s: self.system_s - earlier.system_s,
            peak_bytes: self.peak_bytes,
        }
    }

    pub(super) fn cpu_s(self) -> f64 {
        self.user_s + self.system_s
    }
}

/// `None` if the process is gone or belongs to another group.
fn of_process(id: u32, group: u32) -> Option<Usage> {
    /// `USER_HZ`, which the kernel's interface fixes at 100.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name is in parentheses and may hold blanks; the fields are counted from behind it.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).copied();
    if field(5)?.parse::<u32>().ok()? != group {
        return None;
    }
    let ticks = |number: usize| field(number)?.parse::<f64>().ok();
    let peak_bytes = peak_bytes(id).unwrap_or(0);
    Some(Usage {
        user_s: ticks(14)? / TICKS_PER_SECOND,
        system_s: ticks(15)? / TICKS_PER_SECOND,
        peak_bytes,
    })
}

/// `VmHWM`.
fn peak_bytes(id: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}
