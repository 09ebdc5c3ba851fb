//! `job_steps`: the steps of the jobs. Queries: [`crate::joblog`].

pub(crate) use entity::{Column, Entity, Model as Step};

mod entity {
    use model::status::{StepKind, StepStatus};
    use sea_orm::entity::prelude::*;

    use crate::value::{Count, Stored, Timestamp};

    #[derive(Debug, Clone, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "job_steps")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: String,
        pub job_id: String,
        pub seq: Count,
        pub name: String,
        pub kind: Stored<StepKind>,
        pub status: Stored<StepStatus>,
        pub attempt: Count,
        pub output: Option<Json>,
        pub error_message: Option<String>,
        pub error_detail: Option<Json>,
        pub started_at: Option<Timestamp>,
        pub completed_at: Option<Timestamp>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
