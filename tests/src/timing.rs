//! Promises of times, on machines that are busy with something else as well. I/O: reads what the kernel tells of processors.

use std::fs;

/// The time of this machine's processors so far, and how much of it nobody used; nothing where the machine does not tell, as macOS.
fn processors() -> Option<(u64, u64)> {
    let told = fs::read_to_string("/proc/stat").ok()?;
    // Of guests, which come after these eight, all is in the first two.
    let times = told.lines().next()?.split_whitespace().skip(1).take(8);
    let times: Vec<u64> = times.filter_map(|time| time.parse().ok()).collect();
    Some((times.iter().sum(), times.get(3)? + times.get(4)?))
}

/// Whether since then nearly all of the processors was used.
fn were_busy_since(before: Option<(u64, u64)>) -> bool {
    let (Some((all_before, free_before)), Some((all, free))) = (before, processors()) else { return false };
    free.saturating_sub(free_before) * 10 < all.saturating_sub(all_before)
}

/// How often a try is held up at most, for each that is wanted.
const MOST_HELD_UP: usize = 3;

/// Tries until the greater part of so many tries went well, or went wrong, as the median of all of them would: one may be lucky, and one held up by others, which says
/// nothing of the product. One that went wrong while others left nothing of the processors is made once more. `attempt` is told how many there were before it, and tells
/// what was wrong.
///
/// # Panics
/// If the greater part went wrong.
pub async fn for_the_most_part(tries: usize, mut attempt: impl AsyncFnMut(usize) -> Result<(), String>) {
    let (mut well, mut wrong, mut held_up) = (0, Vec::new(), 0);
    while well * 2 < tries {
        let before = processors();
        match attempt(well + wrong.len() + held_up).await {
            Ok(()) => well += 1,
            Err(_) if held_up < tries * MOST_HELD_UP && were_busy_since(before) => held_up += 1,
            Err(why) => wrong.push(why),
        }
        assert!(wrong.len() * 2 < tries, "of {tries} tries {} went wrong: {wrong:#?}", wrong.len());
    }
}
