//! A laboratory: a simulated vCenter and a simulated CloudStack that speak the real wire protocols, guests that
//! write, and the world that starts everything. Never a dependency of the product.

pub mod cloudstack;
pub mod crash_matrix;
pub mod demo;
pub mod guest;
pub mod mariadb;
pub mod ports;
pub mod serve;
pub mod toxic;
pub mod vcenter;
pub mod wire;
pub mod world;
