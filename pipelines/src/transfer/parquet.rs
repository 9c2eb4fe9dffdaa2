//! Rows as columns of Parquet, and back. Times are milliseconds in UTC; vectors are lists of a fixed length.

use std::{fs::File, io::Write, sync::Arc};

use arrow_array::{
    Array, ArrayRef, BooleanArray, FixedSizeListArray, Float32Array, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMillisecondArray,
    builder::{ListBuilder, StringBuilder},
    cast::AsArray,
    types::{Float32Type, Float64Type, Int64Type, TimestampMillisecondType},
};
use arrow_schema::{ArrowError, DataType, Field, Schema};
use nearcast_domain::{Engagement, Erasure, Event, EventId, Item, ItemId, Message, Tenant, Timestamp, UserId, Vector};
use parquet::{
    arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder},
    basic::{Compression, ZstdLevel},
    file::properties::WriterProperties,
};

use super::{
    json::to_json,
    rows::{Dataset, Embedded, Row, UserRow},
};

/// Rows that are decoded together.
const AT_ONCE: usize = 1024;
/// Rows of a group.
const GROUP: usize = 128 * 1024;

type Error = Box<dyn std::error::Error + Send + Sync>;

fn text<'a>(of: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(of.collect::<StringArray>())
}

fn column(array: impl Array + 'static) -> ArrayRef {
    Arc::new(array)
}

fn times(of: impl Iterator<Item = Option<Timestamp>>) -> ArrayRef {
    Arc::new(of.map(|t| t.map(Timestamp::millis)).collect::<TimestampMillisecondArray>().with_timezone("UTC"))
}

/// A column with its name and whether it may be empty.
type Column = (&'static str, bool, ArrayRef);

/// Writes rows as one file; gives the writer back.
pub(super) fn write<W: Write + Send>(out: W, dataset: Dataset, rows: &[Row]) -> Result<W, Error> {
    let columns = match dataset {
        Dataset::Events => events(rows),
        Dataset::Items => items(rows)?,
        Dataset::Users => users(rows),
        Dataset::Profiles => vectors(rows, &["user_id"])?,
        Dataset::MessageEmbeddings => vectors(rows, &["user_id", "message_id"])?,
        Dataset::ItemEmbeddings => vectors(rows, &["item_id"])?,
    };
    let fields = columns.iter().map(|(name, empty, array)| Field::new(*name, array.data_type().clone(), *empty));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let batch = RecordBatch::try_new(schema.clone(), columns.into_iter().map(|(.., array)| array).collect())?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_max_row_group_row_count(Some(GROUP))
        .set_created_by("nearcast".into())
        .build();
    let mut writer = ArrowWriter::try_new(out, schema, Some(properties))?;
    writer.write(&batch)?;
    Ok(writer.into_inner()?)
}

fn of_events(rows: &[Row]) -> impl Iterator<Item = &Event> {
    rows.iter().filter_map(|r| match r {
        Row::Event(e) => Some(e),
        _ => None,
    })
}

fn about(e: &Event) -> Option<&Engagement> {
    match e {
        Event::Engagement(e) => Some(e),
        _ => None,
    }
}

fn events(rows: &[Row]) -> Vec<Column> {
    let all = || of_events(rows);
    vec![
        ("type", false, text(all().map(|e| Some(e.type_name())))),
        ("tenant", false, text(all().map(|e| Some(e.tenant().as_str())))),
        (
            "event_id",
            true,
            text(all().map(|e| match e {
                Event::Message(m) => Some(m.message_id.as_str()),
                Event::Engagement(e) => Some(e.event_id.as_str()),
                _ => None,
            })),
        ),
        ("user_id", true, text(all().map(|e| e.user().map(UserId::as_str)))),
        (
            "item_id",
            true,
            text(all().map(|e| match e {
                Event::Message(m) => m.item_id.as_ref().map(ItemId::as_str),
                Event::Engagement(e) => Some(e.item_id.as_str()),
                _ => None,
            })),
        ),
        ("kind", true, text(all().map(|e| about(e).map(|e| &*e.kind)))),
        ("value", true, column(all().map(|e| about(e).map(|e| e.value)).collect::<Float64Array>())),
        (
            "text",
            true,
            text(all().map(|e| match e {
                Event::Message(m) => Some(&*m.text),
                _ => None,
            })),
        ),
        (
            "timestamp",
            false,
            times(all().map(|e| match e {
                Event::Message(e) => Some(e.timestamp),
                Event::Engagement(e) => Some(e.timestamp),
                Event::Erasure(e) => Some(e.timestamp),
                Event::Item(e) => e.timestamp,
            })),
        ),
    ]
}

fn items(rows: &[Row]) -> Result<Vec<Column>, Error> {
    let all: Vec<&Item> = of_events(rows)
        .filter_map(|e| match e {
            Event::Item(i) => Some(i),
            _ => None,
        })
        .collect();
    let mut categories = ListBuilder::new(StringBuilder::new());
    for item in &all {
        item.categories.iter().for_each(|c| categories.values().append_value(c));
        categories.append(true);
    }
    let attributes =
        all.iter().map(|i| Ok(String::from_utf8(to_json(&i.attributes)?)?)).collect::<Result<Vec<String>, Error>>()?;
    Ok(vec![
        ("tenant", false, text(all.iter().map(|i| Some(i.tenant.as_str())))),
        ("item_id", false, text(all.iter().map(|i| Some(i.item_id.as_str())))),
        ("text", true, text(all.iter().map(|i| i.text.as_deref()))),
        ("categories", false, column(categories.finish())),
        ("expires_at", true, times(all.iter().map(|i| i.expires_at))),
        ("hidden", false, column(all.iter().map(|i| Some(i.hidden)).collect::<BooleanArray>())),
        ("attributes", false, text(attributes.iter().map(|a| Some(a.as_str())))),
        ("timestamp", true, times(all.iter().map(|i| i.timestamp))),
    ])
}

fn users(rows: &[Row]) -> Vec<Column> {
    let all: Vec<&UserRow> = rows
        .iter()
        .filter_map(|r| match r {
            Row::User(u) => Some(u),
            _ => None,
        })
        .collect();
    let whole = |n: &dyn Fn(&UserRow) -> u64| -> ArrayRef { Arc::new(all.iter().map(|u| n(u) as i64).collect::<Int64Array>()) };
    vec![
        ("tenant", false, text(all.iter().map(|u| Some(u.tenant.as_str())))),
        ("user_id", false, text(all.iter().map(|u| Some(u.user_id.as_str())))),
        ("messages", false, whole(&|u| u.messages)),
        ("engagements", false, whole(&|u| u.engagements)),
        ("first", false, times(all.iter().map(|u| Some(u.first)))),
        ("last", false, times(all.iter().map(|u| Some(u.last)))),
    ]
}

fn vectors(rows: &[Row], ids: &[&'static str]) -> Result<Vec<Column>, Error> {
    let all: Vec<&Embedded> = rows
        .iter()
        .filter_map(|r| match r {
            Row::Embedded(e) => Some(e),
            _ => None,
        })
        .collect();
    let length = all.first().map_or(0, |e| e.vector.len());
    if all.iter().any(|e| e.vector.len() != length) {
        return Err("vectors of one revision have different lengths".into());
    }
    let numbers: Float32Array = all.iter().flat_map(|e| e.vector.iter().copied()).collect::<Vec<f32>>().into();
    let field = Arc::new(Field::new_list_field(DataType::Float32, false));
    let lists = FixedSizeListArray::try_new(field, i32::try_from(length)?, Arc::new(numbers), None)?;
    let mut columns: Vec<Column> = vec![("tenant", false, text(all.iter().map(|e| Some(e.tenant.as_str()))))];
    for id in ids {
        let column = match *id {
            "user_id" => text(all.iter().map(|e| e.user_id.as_ref().map(UserId::as_str))),
            "message_id" => text(all.iter().map(|e| e.message_id.as_deref())),
            _ => text(all.iter().map(|e| e.item_id.as_ref().map(ItemId::as_str))),
        };
        columns.push((*id, false, column));
    }
    columns.push(("revision", false, text(all.iter().map(|e| Some(&*e.revision)))));
    columns.push(("vector", false, column(lists)));
    Ok(columns)
}

/// The batches of a file.
pub(super) fn read(file: File) -> Result<impl Iterator<Item = Result<RecordBatch, Error>> + Send, Error> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)?.with_batch_size(AT_ONCE).build()?;
    Ok(reader.map(|batch| batch.map_err(|e: ArrowError| e.into())))
}

/// Columns by their names.
struct Columns<'a>(&'a RecordBatch);

impl<'a> Columns<'a> {
    fn get(&self, name: &str) -> Result<&'a ArrayRef, Error> {
        self.0.column_by_name(name).ok_or_else(|| format!("the column {name:?} is missing").into())
    }

    fn text(&self, name: &str) -> Result<&'a StringArray, Error> {
        self.get(name)?.as_string_opt::<i32>().ok_or_else(|| format!("the column {name:?} is no text").into())
    }

    fn times(&self, name: &str) -> Result<impl Fn(usize) -> Option<Timestamp> + 'a, Error> {
        let array = self.get(name)?.as_primitive_opt::<TimestampMillisecondType>();
        let array = array.ok_or_else(|| format!("the column {name:?} is no time in milliseconds"))?;
        Ok(move |i| (!array.is_null(i)).then(|| Timestamp::from_millis(array.value(i))))
    }

    fn whole(&self, name: &str) -> Result<impl Fn(usize) -> u64 + 'a, Error> {
        let array = self.get(name)?.as_primitive_opt::<Int64Type>();
        let array = array.ok_or_else(|| format!("the column {name:?} holds no whole numbers"))?;
        Ok(move |i| array.value(i).max(0) as u64)
    }
}

fn at(array: &StringArray, i: usize) -> Option<&str> {
    (!array.is_null(i)).then(|| array.value(i))
}

/// The rows of a batch.
pub(super) fn rows(dataset: Dataset, batch: &RecordBatch) -> Result<Vec<Row>, Error> {
    let columns = Columns(batch);
    match dataset {
        Dataset::Events => events_of(&columns),
        Dataset::Items => items_of(&columns),
        Dataset::Users => users_of(&columns),
        _ => vectors_of(&columns),
    }
}

fn events_of(c: &Columns<'_>) -> Result<Vec<Row>, Error> {
    let (types, tenants, ids, users) = (c.text("type")?, c.text("tenant")?, c.text("event_id")?, c.text("user_id")?);
    let (items, kinds, texts, time) = (c.text("item_id")?, c.text("kind")?, c.text("text")?, c.times("timestamp")?);
    let values = c.get("value")?.as_primitive_opt::<Float64Type>().ok_or("the column \"value\" holds no numbers")?;
    let missing = |name: &str, i: usize| -> Error { format!("row {i} has no {name}").into() };
    (0..c.0.num_rows())
        .map(|i| -> Result<Row, Error> {
            let tenant = Tenant::trusted(types_of(tenants, i, "tenant")?);
            let user_id = UserId::trusted(types_of(users, i, "user_id")?);
            let timestamp = time(i).ok_or_else(|| missing("timestamp", i))?;
            let item_id = at(items, i).map(ItemId::trusted);
            Ok(Row::Event(match types_of(types, i, "type")? {
                "message" => Event::Message(Message {
                    tenant,
                    message_id: EventId::trusted(types_of(ids, i, "event_id")?),
                    user_id,
                    text: types_of(texts, i, "text")?.into(),
                    item_id,
                    timestamp,
                }),
                "engagement" => Event::Engagement(Engagement {
                    tenant,
                    event_id: EventId::trusted(types_of(ids, i, "event_id")?),
                    user_id,
                    item_id: item_id.ok_or_else(|| missing("item_id", i))?,
                    kind: types_of(kinds, i, "kind")?.into(),
                    value: values.value(i),
                    timestamp,
                }),
                "erasure" => Event::Erasure(Erasure { tenant, user_id, timestamp }),
                other => return Err(format!("row {i} is of the unknown type {other:?}").into()),
            }))
        })
        .collect()
}

/// The text of a row that must have one.
fn types_of<'a>(array: &'a StringArray, i: usize, name: &str) -> Result<&'a str, Error> {
    at(array, i).ok_or_else(|| format!("row {i} has no {name}").into())
}

fn items_of(c: &Columns<'_>) -> Result<Vec<Row>, Error> {
    let (tenants, ids, texts, attributes) = (c.text("tenant")?, c.text("item_id")?, c.text("text")?, c.text("attributes")?);
    let (expires, times) = (c.times("expires_at")?, c.times("timestamp")?);
    let hidden = c.get("hidden")?.as_boolean_opt().ok_or("the column \"hidden\" holds no truth values")?;
    let lists = c.get("categories")?.as_list_opt::<i32>().ok_or("the column \"categories\" holds no lists")?;
    (0..c.0.num_rows())
        .map(|i| -> Result<Row, Error> {
            let list = lists.value(i);
            let list = list.as_string_opt::<i32>().ok_or("the column \"categories\" holds no lists of texts")?;
            Ok(Row::Event(Event::Item(Item {
                tenant: Tenant::trusted(types_of(tenants, i, "tenant")?),
                item_id: ItemId::trusted(types_of(ids, i, "item_id")?),
                text: at(texts, i).map(Into::into),
                categories: list.iter().flatten().map(Into::into).collect(),
                expires_at: expires(i),
                hidden: hidden.value(i),
                attributes: serde_json::from_str(types_of(attributes, i, "attributes")?)?,
                timestamp: times(i),
            })))
        })
        .collect()
}

fn users_of(c: &Columns<'_>) -> Result<Vec<Row>, Error> {
    let (tenants, ids) = (c.text("tenant")?, c.text("user_id")?);
    let (messages, engagements, first, last) =
        (c.whole("messages")?, c.whole("engagements")?, c.times("first")?, c.times("last")?);
    (0..c.0.num_rows())
        .map(|i| -> Result<Row, Error> {
            Ok(Row::User(UserRow {
                tenant: Tenant::trusted(types_of(tenants, i, "tenant")?),
                user_id: UserId::trusted(types_of(ids, i, "user_id")?),
                messages: messages(i),
                engagements: engagements(i),
                first: first(i).unwrap_or_default(),
                last: last(i).unwrap_or_default(),
            }))
        })
        .collect()
}

fn vectors_of(c: &Columns<'_>) -> Result<Vec<Row>, Error> {
    let (tenants, revisions) = (c.text("tenant")?, c.text("revision")?);
    let (users, messages, items) = (c.text("user_id").ok(), c.text("message_id").ok(), c.text("item_id").ok());
    let lists = c.get("vector")?.as_fixed_size_list_opt().ok_or("the column \"vector\" holds no lists")?;
    (0..c.0.num_rows())
        .map(|i| -> Result<Row, Error> {
            let list = lists.value(i);
            let list = list.as_primitive_opt::<Float32Type>().ok_or("the column \"vector\" holds no numbers")?;
            Ok(Row::Embedded(Embedded {
                tenant: Tenant::trusted(types_of(tenants, i, "tenant")?),
                user_id: users.and_then(|a| at(a, i)).map(UserId::trusted),
                message_id: messages.and_then(|a| at(a, i)).map(Into::into),
                item_id: items.and_then(|a| at(a, i)).map(ItemId::trusted),
                revision: types_of(revisions, i, "revision")?.into(),
                vector: Vector::from(&list.values()[..]),
            }))
        })
        .collect()
}
