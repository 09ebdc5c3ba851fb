//! volume-daemon
