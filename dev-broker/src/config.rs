//! How a broker is started, and why it may not start.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Settings of a [`DevBroker`](crate::DevBroker).
#[derive(Debug, Clone)]
pub struct DevBrokerConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// `HOST:PORT` that clients are told to connect to, if not the address that it listens on
    /// (behind a proxy).
    pub advertised: Option<SocketAddr>,
    /// Where to keep everything; `None` keeps it in memory only.
    pub data_dir: Option<PathBuf>,
    /// Partitions of a topic that is created without a count.
    pub default_partitions: i32,
    /// Whether a client's first use of a topic creates it.
    pub auto_create_topics: bool,
    /// Shortest session timeout that a group's member may ask for.
    pub group_min_session_timeout: Duration,
    /// Longest session timeout that a group's member may ask for.
    pub group_max_session_timeout: Duration,
    /// How long an empty group waits for more members after the first.
    pub group_initial_rebalance_delay: Duration,
    /// Longest transaction timeout that a producer may ask for.
    pub transaction_max_timeout: Duration,
    /// How often compaction and retention look for work.
    pub cleaner_interval: Duration,
}

impl Default for DevBrokerConfig {
    fn default() -> DevBrokerConfig {
        DevBrokerConfig {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            advertised: None,
            data_dir: None,
            default_partitions: 1,
            auto_create_topics: true,
            group_min_session_timeout: Duration::from_secs(6),
            group_max_session_timeout: Duration::from_secs(30 * 60),
            group_initial_rebalance_delay: Duration::ZERO,
            transaction_max_timeout: Duration::from_secs(15 * 60),
            cleaner_interval: Duration::from_secs(15),
        }
    }
}

/// Why a broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum DevBrokerError {
    /// The address is taken, or not ours.
    #[error("the development broker cannot listen on {listen}: {source}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The data directory cannot be read or written.
    #[error("the development broker cannot use its data directory {}: {source}", path.display())]
    DataDirectory {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// No thread to run on.
    #[error("the development broker cannot start its thread: {0}")]
    Thread(std::io::Error),
}
