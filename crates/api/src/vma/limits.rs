//! How much a run, and its agent, may send.

use std::num::NonZeroU32;

use model::BandwidthLimit;
use serde::{Deserialize, Serialize};

/// How much may be sent: `POST /runs/{job_id}/limits` changes it while a run goes on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RunLimits {
    /// MiB per second of this run alone.
    #[serde(default)]
    #[schema(value_type = Option<u32>, minimum = 1)]
    pub limit_mib_per_s: Option<NonZeroU32>,
    /// What the hub allows the agent in all, beside the agent's own configuration; the lowest in force counts.
    #[serde(default)]
    pub agent_limits: Vec<BandwidthLimit>,
}
