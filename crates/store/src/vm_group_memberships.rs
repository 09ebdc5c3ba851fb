//! stub
use crate::connect::Store;
use crate::error::StoreError;
use crate::value::Count;
/// x
pub struct M {
    /// x
    pub enabled: bool,
    /// x
    pub vm_context_id: String,
    /// x
    pub boot_order: i64,
    /// x
    pub boot_delay_seconds: Count,
}
/// x
/// # Errors
/// x
pub async fn of_group(_s: &Store, _id: &str) -> Result<Vec<M>, StoreError> {
    Ok(Vec::new())
}
