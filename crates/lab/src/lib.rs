//! A laboratory: a simulated vCenter and a simulated CloudStack that speak the real wire protocols.
//!
//! Never a dependency of the product.

pub mod cloudstack;
pub mod guest;
pub mod mariadb;
pub mod vcenter;
