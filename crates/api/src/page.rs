//! How lists are cut into pages: `?limit=&cursor=` and `{items, next_cursor?}`.

use serde::{Deserialize, Serialize};

/// Items on a page unless asked otherwise.
pub const DEFAULT_LIMIT: u32 = 100;
/// Most items on a page.
pub const MAX_LIMIT: u32 = 1000;

/// What a list request may say about its page.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// Most items wanted.
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

impl PageQuery {
    /// The limit within its bounds.
    #[must_use]
    pub fn bounded_limit(&self) -> u32 {
        self.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT)
    }
}

/// One page of a list.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next page begins; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}
