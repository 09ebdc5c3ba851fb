//! oma
