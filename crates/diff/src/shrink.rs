//! Makes a failing sequence short: delta debugging (Zeller and Hildebrandt 2002) over its calls.

/// Leaves out of `items` what `fails` does not need. `fails` holds for `items`, and is asked at most
/// `budget` times.
pub(crate) async fn shrink<T: Clone>(
    mut items: Vec<T>,
    mut budget: usize,
    mut fails: impl AsyncFnMut(&[T]) -> bool,
) -> Vec<T> {
    let mut parts = 2;
    while items.len() > 1 {
        let size = items.len().div_ceil(parts);
        let mut found = None;
        for start in (0..items.len()).step_by(size) {
            if budget == 0 {
                return items;
            }
            budget -= 1;
            let end = (start + size).min(items.len());
            let rest = [&items[..start], &items[end..]].concat();
            if fails(&rest).await {
                found = Some(rest);
                break;
            }
        }
        match found {
            Some(rest) => {
                items = rest;
                parts = parts.saturating_sub(1).max(2);
            }
            None if size == 1 => break,
            None => parts = (parts * 2).min(items.len()),
        }
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_is_needed_is_left() {
        let fails = async |items: &[u32]| items.contains(&3) && items.contains(&77);
        assert_eq!(shrink((0..100).collect(), 1000, fails).await, [3, 77]);
    }

    #[tokio::test]
    async fn the_budget_ends_it() {
        let mut asked = 0;
        let left = shrink((0..100).collect(), 5, async |items: &[u32]| {
            asked += 1;
            items.contains(&99)
        })
        .await;
        assert!(left.contains(&99) && left.len() > 1, "{left:?}");
        assert_eq!(asked, 5);
    }
}
