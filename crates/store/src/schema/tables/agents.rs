//! Agents: how they are reached, paired, enrolled, watched and audited.

use model::status::{AuditEvent, ConnectionStatus, EnrollmentStatus, stored_texts};

use crate::schema::description::{Table, count, flag, id, json, name, one_of, text, time};

/// The tables of this area.
pub(in crate::schema) fn agents() -> Vec<Table> {
    vec![vmware_credentials(), vma_pairing_codes(), vma_enrollments(), vma_active_connections(), vma_connection_audit()]
}

fn vmware_credentials() -> Table {
    Table::new(
        "vmware_credentials",
        [
            id("id"),
            name("credential_name").unique(),
            name("vcenter_host"),
            name("username"),
            text("password_encrypted"),
            name("datacenter"),
            name("tls_thumbprint").optional(),
            flag("is_active"),
            flag("is_default"),
            time("last_used").optional(),
            count("usage_count"),
            name("created_by").optional(),
        ],
    )
    .timestamped()
}

fn vma_pairing_codes() -> Table {
    Table::new(
        "vma_pairing_codes",
        [
            id("id"),
            name("code_hash").unique(),
            name("generated_by"),
            time("expires_at"),
            time("used_at").optional(),
            id("used_by_enrollment_id").refers_to("vma_enrollments", "id"),
            count("failed_attempts"),
            time("created_at"),
        ],
    )
}

fn vma_enrollments() -> Table {
    Table::new(
        "vma_enrollments",
        [
            id("id"),
            id("pairing_code_id").refers_to("vma_pairing_codes", "id"),
            name("vma_name"),
            name("vma_version"),
            name("vma_fingerprint").unique(),
            text("vma_public_key"),
            name("certificate_serial").optional(),
            time("certificate_expires_at").optional(),
            name("vma_ip_address").optional(),
            name("challenge_nonce").optional(),
            one_of("status", stored_texts::<EnrollmentStatus>()),
            name("approved_by").optional(),
            time("approved_at").optional(),
            time("expires_at"),
        ],
    )
    .timestamped()
    .index(&["status"])
}

fn vma_active_connections() -> Table {
    Table::new(
        "vma_active_connections",
        [
            id("id"),
            id("enrollment_id").owned_by("vma_enrollments", "id").unique(),
            one_of("connection_status", stored_texts::<ConnectionStatus>()),
            name("remote_address"),
            name("protocol_version"),
            time("connected_at"),
            time("last_seen_at"),
            count("round_trip_ms").optional(),
            time("revoked_at").optional(),
            name("revoked_by").optional(),
        ],
    )
    .timestamped()
}

fn vma_connection_audit() -> Table {
    Table::new(
        "vma_connection_audit",
        [
            id("id"),
            id("enrollment_id").refers_to("vma_enrollments", "id"),
            one_of("event_type", stored_texts::<AuditEvent>()),
            name("vma_fingerprint").optional(),
            name("source_ip"),
            name("user_agent").optional(),
            name("approved_by").optional(),
            json("event_details"),
            time("created_at"),
        ],
    )
    .index(&["created_at"])
}
