//! Temporary.
#[derive(Debug, thiserror::Error)]
#[error("seal")]
pub struct SealError;
/// k
pub struct SealingKey;
impl SealingKey {
    /// l
    pub fn load_or_create(_: &std::path::Path) -> Result<Self, SealError> { Ok(Self) }
    /// o
    pub fn open(&self, text: &str, _aad: &str) -> Result<model::Secret, SealError> { Ok(model::Secret::new(text)) }
}
