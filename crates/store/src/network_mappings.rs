//! `network_mappings`: which network each card of a VM goes to, live and test apart. Judges no network: the caller does.
//!
//! A card is known by its MAC address. `both` is two rows, one for each side, so that either can be changed alone.

use std::collections::HashMap;

use model::status::{MappingType, NicStrategy, ValidationStatus};
use model::{MacAddress, id};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, IntoActiveModel, QueryFilter,
    QueryOrder, QuerySelect,
};

use crate::connect::Store;
use crate::error::{StoreError, while_doing};
use crate::value::{Stored, Timestamp, bounded_text, short_text};
use crate::vm_replication_contexts::{self as contexts, VmContext};

pub use entity::Model as NetworkMapping;
pub(crate) use entity::{Column, Entity};

/// What these rows are called in errors.
const WHAT: &str = "network mapping";
/// Most rows of one VM: ten cards are the most vSphere knows, and cards that are gone leave theirs behind.
pub const MAX_PER_VM: usize = 128;

mod entity {
    use model::status::{MappingType, NicStrategy, ValidationStatus};
    use sea_orm::entity::prelude::*;

    use crate::value::{Stored, Timestamp};

    /// Where a network card goes, in live or in test failovers.
    #[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "network_mappings")]
    pub struct Model {
        /// Row id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: String,
        /// The VM.
        pub vm_context_id: String,
        /// Its instance uuid.
        pub vm_id: String,
        /// Network the card was on when the mapping was made.
        pub source_network_name: String,
        /// The card: its MAC address, lower case with colons.
        pub source_mac: String,
        /// CloudStack's id of the network.
        pub destination_network_id: String,
        /// Its name when it was looked at.
        pub destination_network_name: String,
        /// Whether it was made for one side or for both together.
        pub mapping_type: Stored<MappingType>,
        /// The side: test failovers, or live ones.
        pub is_test_network: bool,
        /// How the card is carried over.
        pub strategy: Stored<NicStrategy>,
        /// The IP address it gets, where the strategy keeps one.
        pub ip_address: Option<String>,
        /// Whether it can be used.
        pub validation_status: Stored<ValidationStatus>,
        /// Why not.
        pub validation_message: Option<String>,
        /// When the network was looked at last.
        pub last_validated: Option<Timestamp>,
        /// When it was made.
        pub created_at: Timestamp,
        /// When the row changed last.
        pub updated_at: Timestamp,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// What looking at the network came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validation {
    /// Whether the mapping can be used.
    pub status: ValidationStatus,
    /// Why not.
    pub message: Option<String>,
    /// When it was looked at.
    pub at: Timestamp,
}

/// A mapping to be made, or to take the place of what is there for its card and its sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMapping {
    /// The card.
    pub source_mac: MacAddress,
    /// Network it is on.
    pub source_network_name: String,
    /// CloudStack's id of the network.
    pub destination_network_id: String,
    /// Its name.
    pub destination_network_name: String,
    /// For live failovers, test failovers, or both.
    pub mapping_type: MappingType,
    /// How the card is carried over in a live failover; without meaning for a test mapping.
    pub live_strategy: NicStrategy,
    /// How it is carried over in a test; without meaning for a live mapping.
    pub test_strategy: NicStrategy,
    /// The IP address it gets where the strategy is [`NicStrategy::KeepIp`].
    pub ip_address: Option<String>,
    /// What was found when the network was looked at.
    pub validation: Validation,
}

impl NewMapping {
    /// Its rows: (whether for tests, strategy).
    fn sides(&self) -> Vec<(bool, NicStrategy)> {
        let (live, test) = ((false, self.live_strategy), (true, self.test_strategy));
        match self.mapping_type {
            MappingType::Live => vec![live],
            MappingType::Test => vec![test],
            MappingType::Both => vec![live, test],
        }
    }

    fn row(&self, vm: &VmContext, side: (bool, NicStrategy), known: Option<&NetworkMapping>) -> NetworkMapping {
        let now = Timestamp::now();
        let (is_test_network, strategy) = side;
        NetworkMapping {
            id: known.map_or_else(id::new_id, |row| row.id.clone()),
            vm_context_id: vm.context_id.clone(),
            vm_id: vm.vmware_vm_id.clone(),
            source_network_name: short_text(&self.source_network_name),
            source_mac: self.source_mac.to_string(),
            destination_network_id: self.destination_network_id.clone(),
            destination_network_name: short_text(&self.destination_network_name),
            mapping_type: self.mapping_type.into(),
            is_test_network,
            strategy: strategy.into(),
            ip_address: self.ip_address.clone().filter(|_| strategy == NicStrategy::KeepIp),
            validation_status: self.validation.status.into(),
            validation_message: self.validation.message.clone().map(bounded_text),
            last_validated: Some(self.validation.at),
            created_at: known.map_or(now, |row| row.created_at),
            updated_at: now,
        }
    }
}

/// The mappings of a VM, by MAC address, live before test.
///
/// # Errors
/// The database fails.
pub async fn of_context(store: &Store, context_id: &str) -> Result<Vec<NetworkMapping>, StoreError> {
    of(store.connection(), context_id).await
}

async fn of(connection: &impl ConnectionTrait, context_id: &str) -> Result<Vec<NetworkMapping>, StoreError> {
    let query = Entity::find()
        .filter(Column::VmContextId.eq(context_id))
        .order_by_asc(Column::SourceMac)
        .order_by_asc(Column::IsTestNetwork)
        .limit(MAX_PER_VM as u64);
    query.all(connection).await.map_err(while_doing("list the network mappings of a VM"))
}

/// One mapping.
///
/// # Errors
/// There is none with that id; the database fails.
pub async fn by_id(store: &Store, mapping_id: &str) -> Result<NetworkMapping, StoreError> {
    one(store.connection(), mapping_id).await
}

async fn one(connection: &impl ConnectionTrait, mapping_id: &str) -> Result<NetworkMapping, StoreError> {
    let row = Entity::find_by_id(mapping_id).one(connection).await.map_err(while_doing("read a network mapping"))?;
    row.ok_or_else(|| StoreError::not_found(WHAT, mapping_id))
}

/// Makes mappings of a VM, or replaces what is there for their cards and sides, all or none. Where only one side of a
/// pair is replaced, the other stays as a mapping of its own. Answers with the rows as they are now.
///
/// # Errors
/// There is no such VM; it would have more than [`MAX_PER_VM`] rows; the database fails.
pub async fn set(store: &Store, context_id: &str, mappings: &[NewMapping]) -> Result<Vec<NetworkMapping>, StoreError> {
    let setting = while_doing("set network mappings");
    let transaction = store.begin_write().await?;
    let vm = contexts::lock(&transaction, context_id).await?;
    let mut known = of(&transaction, context_id).await?;
    let mut written = Vec::new();
    for mapping in mappings {
        for side in mapping.sides() {
            let mac = mapping.source_mac.to_string();
            let at = known.iter().position(|row| row.source_mac == mac && row.is_test_network == side.0);
            let row = mapping.row(&vm, side, at.map(|at| &known[at]));
            write(&transaction, &row, at.is_some()).await?;
            match at {
                Some(at) => known[at] = row.clone(),
                None => known.push(row.clone()),
            }
            written.push(row);
        }
        if mapping.mapping_type != MappingType::Both {
            part(&transaction, context_id, &mapping.source_mac.to_string()).await?;
        }
    }
    if known.len() > MAX_PER_VM {
        let reason =
            format!("it would have more than {MAX_PER_VM} network mappings; delete those of cards it has no more");
        return Err(StoreError::conflict(contexts::WHAT, vm.vm_name, reason));
    }
    transaction.commit().await.map_err(&setting)?;
    Ok(written)
}

async fn write(transaction: &DatabaseTransaction, row: &NetworkMapping, exists: bool) -> Result<(), StoreError> {
    let writing = while_doing("write a network mapping");
    if exists {
        let update = Entity::update_many().set(row.clone().into_active_model().reset_all());
        let update = update.filter(Column::Id.eq(row.id.as_str())).exec(transaction).await;
        return update.map(|_| ()).map_err(writing);
    }
    let insert = Entity::insert(row.clone().into_active_model()).exec_without_returning(transaction).await;
    insert.map(|_| ()).map_err(writing)
}

/// The rows of a card that were made together are mappings of their own from now on.
async fn part(transaction: &DatabaseTransaction, context_id: &str, mac: &str) -> Result<(), StoreError> {
    for (is_test, alone) in [(false, MappingType::Live), (true, MappingType::Test)] {
        Entity::update_many()
            .col_expr(Column::MappingType, Expr::value(Stored(alone)))
            .col_expr(Column::UpdatedAt, Expr::value(Timestamp::now()))
            .filter(Column::VmContextId.eq(context_id))
            .filter(Column::SourceMac.eq(mac))
            .filter(Column::IsTestNetwork.eq(is_test))
            .filter(Column::MappingType.eq(Stored(MappingType::Both)))
            .exec(transaction)
            .await
            .map_err(while_doing("part the network mappings of a card"))?;
    }
    Ok(())
}

/// Deletes a mapping and answers with it; the other side of a pair stays as a mapping of its own.
///
/// # Errors
/// There is none with that id; the database fails.
pub async fn delete(store: &Store, mapping_id: &str) -> Result<NetworkMapping, StoreError> {
    let deleting = while_doing("delete a network mapping");
    let context_id = by_id(store, mapping_id).await?.vm_context_id;
    let transaction = store.begin_write().await?;
    contexts::lock(&transaction, &context_id).await?;
    let row = one(&transaction, mapping_id).await?;
    Entity::delete_by_id(mapping_id).exec(&transaction).await.map_err(&deleting)?;
    part(&transaction, &context_id, &row.source_mac).await?;
    transaction.commit().await.map_err(&deleting)?;
    Ok(row)
}

/// Records what looking at the network of `seen` came to. A mapping that was changed meanwhile is left alone: the
/// finding is not about what it says now. Answers with the row as it is now, or with none when it is gone.
///
/// # Errors
/// The database fails.
pub async fn set_validation(
    store: &Store,
    seen: &NetworkMapping,
    validation: &Validation,
) -> Result<Option<NetworkMapping>, StoreError> {
    let recording = while_doing("record the validation of a network mapping");
    Entity::update_many()
        .col_expr(Column::ValidationStatus, Expr::value(Stored(validation.status)))
        .col_expr(Column::ValidationMessage, Expr::value(validation.message.clone().map(bounded_text)))
        .col_expr(Column::LastValidated, Expr::value(validation.at))
        .col_expr(Column::UpdatedAt, Expr::value(Timestamp::now()))
        .filter(Column::Id.eq(seen.id.as_str()))
        .filter(Column::UpdatedAt.eq(seen.updated_at))
        .exec(store.connection())
        .await
        .map_err(&recording)?;
    Entity::find_by_id(seen.id.as_str()).one(store.connection()).await.map_err(&recording)
}

/// That a network carries live mappings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveUse {
    /// CloudStack's id of the network.
    pub network_id: String,
    /// How many VMs go there in a live failover.
    pub vms: u64,
    /// The name of one of them.
    pub vm_name: String,
}

/// Which of these networks some VM goes to in a live failover.
///
/// # Errors
/// The database fails.
pub async fn live_uses(store: &Store, network_ids: &[String]) -> Result<Vec<LiveUse>, StoreError> {
    let looking = while_doing("look for live network mappings");
    let uses: Vec<(String, String, i64)> = Entity::find()
        .select_only()
        .column(Column::DestinationNetworkId)
        .column_as(Expr::col(Column::VmContextId).min(), "example")
        .column_as(Expr::col(Column::VmContextId).count_distinct(), "vms")
        .filter(Column::IsTestNetwork.eq(false))
        .filter(Column::DestinationNetworkId.is_in(network_ids.iter().map(String::as_str)))
        .group_by(Column::DestinationNetworkId)
        .order_by_asc(Column::DestinationNetworkId)
        .into_tuple()
        .all(store.connection())
        .await
        .map_err(&looking)?;
    let named: Vec<(String, String)> = contexts::Entity::find()
        .select_only()
        .columns([contexts::Column::ContextId, contexts::Column::VmName])
        .filter(contexts::Column::ContextId.is_in(uses.iter().map(|(_, example, _)| example.as_str())))
        .into_tuple()
        .all(store.connection())
        .await
        .map_err(&looking)?;
    let names: HashMap<String, String> = named.into_iter().collect();
    let uses = uses.into_iter().map(|(network_id, example, vms)| LiveUse {
        network_id,
        vms: vms.unsigned_abs(),
        vm_name: names.get(&example).cloned().unwrap_or(example),
    });
    Ok(uses.collect())
}
