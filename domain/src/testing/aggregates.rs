//! What every engagement store does with aggregates: by hour and by day, late events, erasures, pages, folding.

use crate::{
    EventId, ItemId, Tenant, Timestamp, UserId,
    ports::{AggregateRow, EngagementJobs, Span, Tally},
    time::HOUR_MS,
};

fn tally(id: &str, user: &str, item: &str, hour: i64) -> Tally {
    Tally {
        id: EventId::trusted(id),
        user: UserId::trusted(user),
        item: ItemId::trusted(item),
        weight: 0.5,
        timestamp: Timestamp::from_millis(hour * HOUR_MS + 5),
    }
}

fn row(start: i64, item: &str, events: u64, users: u64) -> AggregateRow {
    AggregateRow { start, item: ItemId::trusted(item), events, users, weight: events as f64 * 0.5 }
}

/// The suite, on an empty store.
pub async fn aggregates(store: &dyn EngagementJobs) {
    let (t, other) = (Tenant::trusted("default"), Tenant::trusted("other"));
    let all = -480..480;
    assert!(store.stale_spans(&t, Span::Hour, all.clone()).await.unwrap().is_empty());
    // Hours before 1970 are negative: -1 is the last of its day, -24 the first.
    let told = [
        tally("1", "u", "a", 5),
        tally("2", "u", "a", 5),
        tally("3", "v", "a", 6),
        tally("4", "v", "b", 5),
        tally("5", "v", "a", 24),
        tally("6", "u", "a", -1),
        tally("7", "v", "a", -24),
    ];
    store.record(&t, &told).await.unwrap();
    store.record(&other, &[tally("1", "u", "a", 5)]).await.unwrap();
    assert_eq!(store.stale_spans(&t, Span::Hour, all.clone()).await.unwrap(), [-24, -1, 5, 6, 24]);
    assert_eq!(store.stale_spans(&t, Span::Hour, 5..6).await.unwrap(), [5]);
    assert_eq!(store.stale_spans(&t, Span::Day, all.clone()).await.unwrap(), [-24, 0, 24]);
    let hours = store.count_spans(&t, Span::Hour, &[5, 6, 7]).await.unwrap();
    assert_eq!(hours, [row(5, "a", 2, 1), row(5, "b", 1, 1), row(6, "a", 1, 1)]);
    let days = store.count_spans(&t, Span::Day, &[-24, 0, 24]).await.unwrap();
    assert_eq!(days, [row(-24, "a", 2, 2), row(0, "a", 3, 2), row(0, "b", 1, 1), row(24, "a", 1, 1)]);

    store.set_aggregates(&t, Span::Hour, &hours, &[]).await.unwrap();
    store.set_aggregates(&t, Span::Hour, &hours, &[]).await.unwrap();
    store.set_aggregates(&t, Span::Day, &days, &[]).await.unwrap();
    assert_eq!(store.aggregates(&t, Span::Hour, all.clone(), None, 99).await.unwrap(), hours);
    assert_eq!(store.aggregates(&t, Span::Day, -24..24, None, 99).await.unwrap(), days[..3]);
    assert_eq!(store.aggregates(&other, Span::Day, all.clone(), None, 99).await.unwrap(), []);
    let after = (0, ItemId::trusted("a"));
    assert_eq!(store.aggregates(&t, Span::Day, all.clone(), Some(&after), 1).await.unwrap(), days[2..3], "in pages");
    assert_eq!(store.stale_spans(&t, Span::Hour, all.clone()).await.unwrap(), [-24, -1, 24]);
    assert!(store.stale_spans(&t, Span::Day, all.clone()).await.unwrap().is_empty());

    // A late event, and an erasure: the spans that they fall in are stale again.
    store.record(&t, &[tally("8", "w", "b", 6)]).await.unwrap();
    assert_eq!(store.stale_spans(&t, Span::Hour, 0..24).await.unwrap(), [6]);
    assert_eq!(store.stale_spans(&t, Span::Day, all.clone()).await.unwrap(), [0]);
    store.erase(&t, &UserId::trusted("v")).await.unwrap();
    assert_eq!(store.stale_spans(&t, Span::Hour, 0..24).await.unwrap(), [5, 6]);
    assert_eq!(store.stale_spans(&t, Span::Day, all.clone()).await.unwrap(), [-24, 0, 24]);
    let hours = store.count_spans(&t, Span::Hour, &[5, 6]).await.unwrap();
    assert_eq!(hours, [row(5, "a", 2, 1), row(6, "b", 1, 1)]);
    let gone = [(5, ItemId::trusted("b")), (6, ItemId::trusted("a")), (7, ItemId::trusted("never"))];
    store.set_aggregates(&t, Span::Hour, &hours, &gone).await.unwrap();
    assert_eq!(store.aggregates(&t, Span::Hour, all.clone(), None, 99).await.unwrap(), hours);
    assert!(store.stale_spans(&t, Span::Hour, 0..24).await.unwrap().is_empty());

    assert_eq!(store.drop_aggregates(&t, Span::Hour, 6).await.unwrap(), 1);
    assert_eq!(store.aggregates(&t, Span::Hour, all.clone(), None, 99).await.unwrap(), hours[1..]);
    assert_eq!(store.drop_aggregates(&t, Span::Hour, 6).await.unwrap(), 0);
    assert_eq!(store.aggregates(&t, Span::Day, all, None, 99).await.unwrap(), days, "days are their own");
}
