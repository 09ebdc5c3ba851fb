//! The views: one text for both databases, but for arithmetic on times.

use super::render::Dialect;

impl Dialect {
    /// Whole seconds from the time `from` to the time `to`.
    fn seconds_between(self, from: &str, to: &str) -> String {
        match self {
            Self::Sqlite => format!("CAST(strftime('%s', {to}) AS INTEGER) - CAST(strftime('%s', {from}) AS INTEGER)"),
            Self::MariaDb => format!("TIMESTAMPDIFF(SECOND, {from}, {to})"),
        }
    }

    /// The time of the query.
    fn now(self) -> &'static str {
        match self {
            Self::Sqlite => "'now'",
            Self::MariaDb => "UTC_TIMESTAMP(6)",
        }
    }

    fn create_view(self) -> &'static str {
        match self {
            Self::Sqlite => "CREATE VIEW IF NOT EXISTS",
            Self::MariaDb => "CREATE OR REPLACE SQL SECURITY INVOKER VIEW",
        }
    }
}

/// The statements that make every view.
pub(super) fn create_views(dialect: Dialect) -> Vec<String> {
    let running_seconds = dialect.seconds_between("j.started_at", dialect.now());
    let duration = dialect.seconds_between("j.started_at", &format!("COALESCE(j.completed_at, {})", dialect.now()));
    let views = [
        ("active_jobs", active_jobs(&running_seconds)),
        ("job_tracking_hierarchy", job_tracking_hierarchy(&duration)),
        ("active_schedules", ACTIVE_SCHEDULES.to_owned()),
        ("schedule_execution_summary", SCHEDULE_EXECUTION_SUMMARY.to_owned()),
        ("vm_schedule_status", VM_SCHEDULE_STATUS.to_owned()),
        ("job_execution_log", JOB_EXECUTION_LOG.to_owned()),
        ("cloudstack_job_tracking", CLOUDSTACK_JOB_TRACKING.to_owned()),
    ];
    views.iter().map(|(name, select)| format!("{} {name} AS\n{select}", dialect.create_view())).collect()
}

/// Jobs that wait or run, with how long they run and how many errors they logged.
fn active_jobs(running_seconds: &str) -> String {
    format!(
        "SELECT j.id, j.parent_job_id, j.root_job_id, j.job_type, j.operation, j.status, j.owner, j.external_job_id,
  j.vm_context_id, c.vm_name, j.percent_complete, j.created_at, j.started_at, {running_seconds} AS running_seconds,
  (SELECT COUNT(*) FROM log_events e WHERE e.job_id = j.id AND e.level = 'error') AS error_count
FROM job_tracking j LEFT JOIN vm_replication_contexts c ON c.context_id = j.vm_context_id
WHERE j.status IN ('pending', 'running')"
    )
}

/// Every job below its root.
fn job_tracking_hierarchy(duration: &str) -> String {
    format!(
        "SELECT j.root_job_id, r.job_type AS root_job_type, r.status AS root_status, j.parent_job_id, j.id AS job_id,
  j.job_type, j.operation, j.status, j.started_at, j.completed_at, {duration} AS duration_seconds,
  (SELECT COUNT(*) FROM job_tracking k WHERE k.parent_job_id = j.id) AS child_count
FROM job_tracking j LEFT JOIN job_tracking r ON r.id = j.root_job_id"
    )
}

/// Enabled schedules; the next run is what the scheduler wrote for the first of their VMs.
const ACTIVE_SCHEDULES: &str = "SELECT s.id AS schedule_id, s.name AS schedule_name, s.schedule_type, s.cron_expression, s.timezone, s.replication_type,
  COUNT(DISTINCT g.id) AS group_count, COUNT(DISTINCT m.vm_context_id) AS vm_count,
  MIN(c.next_scheduled_at) AS next_run_at
FROM replication_schedules s
LEFT JOIN vm_machine_groups g ON g.schedule_id = s.id
LEFT JOIN vm_group_memberships m ON m.group_id = g.id AND m.enabled = 1
LEFT JOIN vm_replication_contexts c ON c.context_id = m.vm_context_id AND c.scheduler_enabled = 1
WHERE s.enabled = 1
GROUP BY s.id, s.name, s.schedule_type, s.cron_expression, s.timezone, s.replication_type";

/// How the executions of each schedule ended.
const SCHEDULE_EXECUTION_SUMMARY: &str =
    "SELECT s.id AS schedule_id, s.name AS schedule_name, COUNT(e.id) AS total_executions,
  COALESCE(SUM(CASE WHEN e.status = 'completed' THEN 1 ELSE 0 END), 0) AS completed_executions,
  COALESCE(SUM(CASE WHEN e.status = 'failed' THEN 1 ELSE 0 END), 0) AS failed_executions,
  COALESCE(SUM(CASE WHEN e.status = 'skipped' THEN 1 ELSE 0 END), 0) AS skipped_executions,
  100.0 * SUM(CASE WHEN e.status = 'completed' THEN 1 ELSE 0 END)
    / NULLIF(SUM(CASE WHEN e.status IN ('completed', 'failed') THEN 1 ELSE 0 END), 0) AS success_rate_percent,
  MAX(e.started_at) AS last_started_at
FROM replication_schedules s LEFT JOIN schedule_executions e ON e.schedule_id = s.id
GROUP BY s.id, s.name";

/// Every VM with the schedules it is under.
const VM_SCHEDULE_STATUS: &str = "SELECT c.context_id, c.vm_name, c.current_status, c.scheduler_enabled, c.next_scheduled_at, c.last_scheduled_job_id,
  j.status AS last_scheduled_job_status, g.id AS group_id, g.name AS group_name, m.enabled AS membership_enabled,
  COALESCE(m.schedule_override_id, g.schedule_id) AS schedule_id, s.name AS schedule_name, s.enabled AS schedule_enabled
FROM vm_replication_contexts c
LEFT JOIN vm_group_memberships m ON m.vm_context_id = c.context_id
LEFT JOIN vm_machine_groups g ON g.id = m.group_id
LEFT JOIN replication_schedules s ON s.id = COALESCE(m.schedule_override_id, g.schedule_id)
LEFT JOIN replication_jobs j ON j.id = c.last_scheduled_job_id";

/// The log of jobs under its old name.
const JOB_EXECUTION_LOG: &str = "SELECT e.id, e.job_id, e.step_id, s.name AS step_name, e.level AS log_level, e.message, e.attrs AS details, e.created_at
FROM log_events e LEFT JOIN job_steps s ON s.id = e.step_id
WHERE e.job_id IS NOT NULL";

/// The jobs that wait for CloudStack under their old name.
const CLOUDSTACK_JOB_TRACKING: &str = "SELECT j.id, j.cloudstack_job_id, j.parent_job_id, j.external_job_id AS request_id, j.job_type, j.operation, j.status,
  j.params AS request_data, j.metadata AS response_data, j.error_message, j.created_at, j.started_at, j.completed_at, j.updated_at
FROM job_tracking j
WHERE j.cloudstack_job_id IS NOT NULL";
