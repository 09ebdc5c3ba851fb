//! The handlers, a file per resource. They translate between HTTP and the modules that do the work.

pub mod agents;
pub mod enroll;
pub mod events;
pub mod health;
pub mod job_view;
pub mod jobs;
pub mod openapi;
