//! What the system reports about the process.

/// The resource usage of the process. What the system does not report is None.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessUsage {
    /// User and system CPU time, in seconds.
    pub cpu_seconds: Option<f64>,
    /// When the process started, in seconds since 1970.
    pub start_time_seconds: Option<f64>,
    /// Resident memory, in bytes.
    pub resident_bytes: Option<u64>,
    /// Virtual memory, in bytes.
    pub virtual_bytes: Option<u64>,
    /// The number of open file descriptors.
    pub open_files: Option<u64>,
    /// The limit on open file descriptors.
    pub open_files_max: Option<u64>,
}
