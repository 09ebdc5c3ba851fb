//! `log_events`: what jobs logged. Queries: [`crate::joblog`].

pub(crate) use entity::{ActiveModel, Column, Entity, Model as LogEvent};

mod entity {
    use model::status::LogLevel;
    use sea_orm::entity::prelude::*;

    use crate::value::{Stored, Timestamp};

    #[derive(Debug, Clone, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "log_events")]
    pub(crate) struct Model {
        #[sea_orm(primary_key)]
        pub id: i64,
        pub job_id: Option<String>,
        pub step_id: Option<String>,
        pub level: Stored<LogLevel>,
        pub message: String,
        pub attrs: Json,
        pub created_at: Timestamp,
        pub updated_at: Timestamp,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
