//! stub
use crate::connect::Store;
use crate::error::StoreError;
use crate::value::Count;
/// x
pub struct G {
    /// x
    pub id: String,
    /// x
    pub name: String,
    /// x
    pub max_concurrent_vms: Count,
}
/// x
/// # Errors
/// x
pub async fn find(_s: &Store, id: &str) -> Result<G, StoreError> {
    Err(StoreError::not_found("group", id))
}
