//! Which records a broker refuses for good. It answers for a batch, so others of the batch are named
//! with the one that is why.

use std::time::Duration;

use crate::forward::policy::dead::{Cause, Refusal};

/// All reports of a batch come together; after this much silence there are no more.
pub(super) const QUIET: Duration = Duration::from_millis(300);

/// What kind of refusal an error code of the protocol is, if it is one.
pub(super) fn cause(code: i32) -> Option<Cause> {
    match code {
        // MESSAGE_TOO_LARGE, RECORD_LIST_TOO_LARGE.
        10 | 18 => Some(Cause::TooLarge),
        // INVALID_TIMESTAMP, INVALID_RECORD.
        32 | 87 => Some(Cause::Refused),
        _ => None,
    }
}

/// Who has to be looked at: `refused` are numbers of records with their codes, `places` are routes
/// and offsets of all. A single one is beyond doubt only if nothing else of the transaction is open.
pub(super) fn suspects(
    refused: &[(usize, i32)],
    places: &[(usize, u64)],
    is_all_known: bool,
) -> Vec<Refusal> {
    let Some(&(_, first)) = refused.first() else { return Vec::new() };
    let refusal = |place: &(usize, u64), code: i32| Refusal {
        route: place.0,
        offset: place.1,
        cause: cause(code).unwrap_or(Cause::Refused),
        reason: reason(code).to_owned(),
    };
    if refused.len() == 1 && !is_all_known {
        return places.iter().map(|place| refusal(place, first)).collect();
    }
    let known = refused.iter().filter_map(|(number, code)| Some((places.get(*number)?, *code)));
    known.map(|(place, code)| refusal(place, code)).collect()
}

fn reason(code: i32) -> &'static str {
    match code {
        10 | 18 => "larger than max.message.bytes of the topic",
        32 => "a time that the topic does not take (message.timestamp.after.max.ms, before.max.ms)",
        _ => "not a record that the topic takes",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_refusal_counts_only_once_all_others_are_known() {
        let places = [(0, 5), (0, 6), (1, 7)];
        let offsets = |refused: &[(usize, i32)], is_all_known| {
            let suspects = suspects(refused, &places, is_all_known);
            suspects.into_iter().map(|one| (one.offset, one.cause)).collect::<Vec<_>>()
        };
        assert_eq!(offsets(&[], true), []);
        assert_eq!(offsets(&[(1, 10)], true), [(6, Cause::TooLarge)]);
        let all = [5, 6, 7].map(|offset| (offset, Cause::TooLarge));
        assert_eq!(offsets(&[(1, 10)], false), all);
        let two = [(5, Cause::Refused), (7, Cause::Refused)];
        assert_eq!(offsets(&[(0, 87), (2, 32)], false), two);
        assert_eq!(cause(29), None, "a right that is missing comes back");
    }
}
