//! `job_tracking`: the jobs themselves. Queries: [`crate::joblog`].

pub(crate) use entity::{Column, Entity, Model as Job};

mod entity {
    use model::status::JobStatus;
    use sea_orm::entity::prelude::*;

    use crate::value::{Count, Stored, Timestamp};

    #[derive(Debug, Clone, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "job_tracking")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: String,
        pub parent_job_id: Option<String>,
        pub root_job_id: String,
        pub job_type: String,
        pub operation: String,
        pub status: Stored<JobStatus>,
        pub external_job_id: Option<String>,
        pub cloudstack_job_id: Option<String>,
        pub vm_context_id: Option<String>,
        pub owner: Option<String>,
        pub lease_until: Option<Timestamp>,
        pub fence: Count,
        pub params: Json,
        pub metadata: Json,
        pub error_message: Option<String>,
        pub error_detail: Option<Json>,
        pub percent_complete: f64,
        pub started_at: Option<Timestamp>,
        pub completed_at: Option<Timestamp>,
        pub canceled_at: Option<Timestamp>,
        pub created_at: Timestamp,
        pub updated_at: Timestamp,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
