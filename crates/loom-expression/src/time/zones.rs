//! Time zones by their Windows names, as the functions of the language take them, and by IANA names, as recurrences do.
//!
//! Windows names map to IANA zones as in the table `windowsZones` of the Unicode CLDR, territory 001 (the world). The
//! rules of the zones come from the bundled time zone database.

use jiff::{
    civil,
    tz::{AmbiguousOffset, TimeZone},
};

use super::{DateTime, Parts, TICKS_PER_SECOND, Zone};
use crate::{Timestamp, suggest};

/// The IANA name of the time zone with this Windows name, ignoring case; `None` for an unknown name.
///
/// ```
/// assert_eq!(loom_expression::iana_time_zone("pacific standard time"), Some("America/Los_Angeles"));
/// ```
pub fn iana_time_zone(windows: &str) -> Option<&'static str> {
    let windows = windows.trim();
    ZONES.iter().find(|(name, _)| name.eq_ignore_ascii_case(windows)).map(|(_, iana)| *iana)
}

/// Whether there is a time zone with this Windows or IANA name.
pub fn is_time_zone(name: &str) -> bool {
    iana_time_zone(name).is_some() || TimeZone::get(name.trim()).is_ok()
}

/// The time zone with this Windows name, ignoring case.
///
/// # Errors
/// A clause that says that the name is unknown, or an IANA name, and suggests a Windows name.
fn zone(name: &str) -> Result<TimeZone, String> {
    let name = name.trim();
    if let Some(zone) = iana_time_zone(name).and_then(|iana| TimeZone::get(iana).ok()) {
        return Ok(zone);
    }
    if let Ok(zone) = TimeZone::get(name) {
        let hint = windows_time_zone(&zone).map_or_else(String::new, |windows| format!(", here '{windows}'"));
        return Err(format!("expected the Windows name of the time zone{hint}, found its IANA name"));
    }
    let near = suggest::nearest(name, ZONES.iter().flat_map(|(windows, iana)| [*windows, *iana]));
    let near = ZONES.iter().find(|(windows, iana)| [Some(*windows), Some(*iana)].contains(&near));
    Err(match near {
        Some((windows, _)) => format!("unknown time zone; did you mean '{windows}'?"),
        None => "unknown time zone; use a Windows name, such as 'Pacific Standard Time'".to_owned(),
    })
}

/// The Windows name of an IANA time zone: the one that maps to this zone, or else the first one with the same offsets
/// from UTC throughout 2025.
fn windows_time_zone(zone: &TimeZone) -> Option<&'static str> {
    let maps = ZONES.iter().find(|(_, iana)| zone.iana_name() == Some(*iana));
    let same =
        || ZONES.iter().find(|(_, iana)| TimeZone::get(iana).is_ok_and(|other| same_offsets(zone, &other)));
    maps.or_else(same).map(|(windows, _)| *windows)
}

fn same_offsets(left: &TimeZone, right: &TimeZone) -> bool {
    // 2025-01-15T12:00:00Z, and the same time every 30 days after it.
    (0..12).map(|at| 1_736_942_400 + at * 30 * 86_400).all(|seconds| {
        jiff::Timestamp::from_second(seconds).is_ok_and(|at| left.to_offset(at) == right.to_offset(at))
    })
}

/// Whether the zone is UTC under one of its names.
fn is_utc(zone: &TimeZone) -> bool {
    zone.iana_name()
        .is_some_and(|name| matches!(name, "UTC" | "Etc/UTC" | "Etc/UCT" | "Etc/Universal" | "Etc/Zulu"))
}

/// The local time of a zone at a point in time.
///
/// # Errors
/// A clause that says that the zone is unknown or the time out of range.
pub(crate) fn from_utc(at: DateTime, name: &str) -> Result<DateTime, String> {
    let zone = zone(name)?;
    local_time(at, &zone).ok_or_else(|| "the result must be between the years 1 and 9999".to_owned())
}

fn local_time(at: DateTime, zone: &TimeZone) -> Option<DateTime> {
    let instant = jiff::Timestamp::from_nanosecond(Timestamp::from_ticks(at.ticks)?.unix_nanos()).ok()?;
    let seconds = i64::from(zone.to_offset(instant).seconds());
    let kind = if is_utc(zone) { Zone::Utc } else { Zone::Unspecified };
    DateTime::at(at.ticks + seconds * TICKS_PER_SECOND, kind)
}

/// The point in time of a zone's local time.
///
/// A local time that daylight saving time skips is an error. A local time that occurs twice is read as the later one,
/// which is standard time.
///
/// # Errors
/// The reason, as a clause.
pub(crate) fn to_utc(local: DateTime, name: &str) -> Result<DateTime, String> {
    let zone = zone(name)?;
    if local.zone == Zone::Utc && !is_utc(&zone) {
        return Err(
            "the timestamp is in UTC, but the source time zone is not; remove the 'Z' or use the zone 'UTC'"
                .to_owned(),
        );
    }
    // A timestamp with an offset was converted to UTC when it was parsed.
    if local.zone != Zone::Unspecified {
        return Ok(DateTime { zone: Zone::Utc, ..local });
    }
    let Parts { year, month, day, hour, minute, second, fraction } = local.parts();
    let civil = civil::DateTime::new(
        year as i16,
        month as i8,
        day as i8,
        hour as i8,
        minute as i8,
        second as i8,
        (fraction * 100) as i32,
    )
    .map_err(|_| "the timestamp is out of range".to_owned())?;
    let offset = match zone.to_ambiguous_timestamp(civil).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset,
        AmbiguousOffset::Fold { after, .. } => after,
        AmbiguousOffset::Gap { .. } => return Err("this local time does not exist in the time zone, whose clocks skip it when daylight saving time begins".to_owned()),
    };
    DateTime::at(local.ticks - i64::from(offset.seconds()) * TICKS_PER_SECOND, Zone::Utc)
        .ok_or_else(|| "the timestamp is out of range".to_owned())
}

#[rustfmt::skip]
const ZONES: &[(&str, &str)] = &[
    ("Dateline Standard Time", "Etc/GMT+12"),
    ("UTC-11", "Etc/GMT+11"),
    ("Aleutian Standard Time", "America/Adak"),
    ("Hawaiian Standard Time", "Pacific/Honolulu"),
    ("Marquesas Standard Time", "Pacific/Marquesas"),
    ("Alaskan Standard Time", "America/Anchorage"),
    ("UTC-09", "Etc/GMT+9"),
    ("Pacific Standard Time (Mexico)", "America/Tijuana"),
    ("UTC-08", "Etc/GMT+8"),
    ("Pacific Standard Time", "America/Los_Angeles"),
    ("US Mountain Standard Time", "America/Phoenix"),
    ("Mountain Standard Time (Mexico)", "America/Mazatlan"),
    ("Mountain Standard Time", "America/Denver"),
    ("Yukon Standard Time", "America/Whitehorse"),
    ("Central America Standard Time", "America/Guatemala"),
    ("Central Standard Time", "America/Chicago"),
    ("Easter Island Standard Time", "Pacific/Easter"),
    ("Central Standard Time (Mexico)", "America/Mexico_City"),
    ("Canada Central Standard Time", "America/Regina"),
    ("SA Pacific Standard Time", "America/Bogota"),
    ("Eastern Standard Time (Mexico)", "America/Cancun"),
    ("Eastern Standard Time", "America/New_York"),
    ("Haiti Standard Time", "America/Port-au-Prince"),
    ("Cuba Standard Time", "America/Havana"),
    ("US Eastern Standard Time", "America/Indiana/Indianapolis"),
    ("Turks And Caicos Standard Time", "America/Grand_Turk"),
    ("Paraguay Standard Time", "America/Asuncion"),
    ("Atlantic Standard Time", "America/Halifax"),
    ("Venezuela Standard Time", "America/Caracas"),
    ("Central Brazilian Standard Time", "America/Cuiaba"),
    ("SA Western Standard Time", "America/La_Paz"),
    ("Pacific SA Standard Time", "America/Santiago"),
    ("Newfoundland Standard Time", "America/St_Johns"),
    ("Tocantins Standard Time", "America/Araguaina"),
    ("E. South America Standard Time", "America/Sao_Paulo"),
    ("SA Eastern Standard Time", "America/Cayenne"),
    ("Argentina Standard Time", "America/Argentina/Buenos_Aires"),
    ("Greenland Standard Time", "America/Nuuk"),
    ("Montevideo Standard Time", "America/Montevideo"),
    ("Magallanes Standard Time", "America/Punta_Arenas"),
    ("Saint Pierre Standard Time", "America/Miquelon"),
    ("Bahia Standard Time", "America/Bahia"),
    ("UTC-02", "Etc/GMT+2"),
    ("Mid-Atlantic Standard Time", "Etc/GMT+2"),
    ("Azores Standard Time", "Atlantic/Azores"),
    ("Cape Verde Standard Time", "Atlantic/Cape_Verde"),
    ("UTC", "Etc/UTC"),
    ("Coordinated Universal Time", "Etc/UTC"),
    ("GMT Standard Time", "Europe/London"),
    ("Greenwich Standard Time", "Atlantic/Reykjavik"),
    ("Sao Tome Standard Time", "Africa/Sao_Tome"),
    ("Morocco Standard Time", "Africa/Casablanca"),
    ("W. Europe Standard Time", "Europe/Berlin"),
    ("Central Europe Standard Time", "Europe/Budapest"),
    ("Romance Standard Time", "Europe/Paris"),
    ("Central European Standard Time", "Europe/Warsaw"),
    ("W. Central Africa Standard Time", "Africa/Lagos"),
    ("Jordan Standard Time", "Asia/Amman"),
    ("GTB Standard Time", "Europe/Bucharest"),
    ("Middle East Standard Time", "Asia/Beirut"),
    ("Egypt Standard Time", "Africa/Cairo"),
    ("E. Europe Standard Time", "Europe/Chisinau"),
    ("Syria Standard Time", "Asia/Damascus"),
    ("West Bank Standard Time", "Asia/Hebron"),
    ("South Africa Standard Time", "Africa/Johannesburg"),
    ("FLE Standard Time", "Europe/Kiev"),
    ("Israel Standard Time", "Asia/Jerusalem"),
    ("South Sudan Standard Time", "Africa/Juba"),
    ("Kaliningrad Standard Time", "Europe/Kaliningrad"),
    ("Sudan Standard Time", "Africa/Khartoum"),
    ("Libya Standard Time", "Africa/Tripoli"),
    ("Namibia Standard Time", "Africa/Windhoek"),
    ("Arabic Standard Time", "Asia/Baghdad"),
    ("Turkey Standard Time", "Europe/Istanbul"),
    ("Arab Standard Time", "Asia/Riyadh"),
    ("Belarus Standard Time", "Europe/Minsk"),
    ("Russian Standard Time", "Europe/Moscow"),
    ("E. Africa Standard Time", "Africa/Nairobi"),
    ("Volgograd Standard Time", "Europe/Volgograd"),
    ("Iran Standard Time", "Asia/Tehran"),
    ("Arabian Standard Time", "Asia/Dubai"),
    ("Astrakhan Standard Time", "Europe/Astrakhan"),
    ("Azerbaijan Standard Time", "Asia/Baku"),
    ("Russia Time Zone 3", "Europe/Samara"),
    ("Mauritius Standard Time", "Indian/Mauritius"),
    ("Saratov Standard Time", "Europe/Saratov"),
    ("Georgian Standard Time", "Asia/Tbilisi"),
    ("Caucasus Standard Time", "Asia/Yerevan"),
    ("Afghanistan Standard Time", "Asia/Kabul"),
    ("West Asia Standard Time", "Asia/Tashkent"),
    ("Qyzylorda Standard Time", "Asia/Qyzylorda"),
    ("Ekaterinburg Standard Time", "Asia/Yekaterinburg"),
    ("Pakistan Standard Time", "Asia/Karachi"),
    ("India Standard Time", "Asia/Kolkata"),
    ("Sri Lanka Standard Time", "Asia/Colombo"),
    ("Nepal Standard Time", "Asia/Kathmandu"),
    ("Central Asia Standard Time", "Asia/Bishkek"),
    ("Bangladesh Standard Time", "Asia/Dhaka"),
    ("Omsk Standard Time", "Asia/Omsk"),
    ("Myanmar Standard Time", "Asia/Yangon"),
    ("SE Asia Standard Time", "Asia/Bangkok"),
    ("Altai Standard Time", "Asia/Barnaul"),
    ("W. Mongolia Standard Time", "Asia/Hovd"),
    ("North Asia Standard Time", "Asia/Krasnoyarsk"),
    ("N. Central Asia Standard Time", "Asia/Novosibirsk"),
    ("Tomsk Standard Time", "Asia/Tomsk"),
    ("China Standard Time", "Asia/Shanghai"),
    ("North Asia East Standard Time", "Asia/Irkutsk"),
    ("Singapore Standard Time", "Asia/Singapore"),
    ("W. Australia Standard Time", "Australia/Perth"),
    ("Taipei Standard Time", "Asia/Taipei"),
    ("Ulaanbaatar Standard Time", "Asia/Ulaanbaatar"),
    ("Aus Central W. Standard Time", "Australia/Eucla"),
    ("Transbaikal Standard Time", "Asia/Chita"),
    ("Tokyo Standard Time", "Asia/Tokyo"),
    ("North Korea Standard Time", "Asia/Pyongyang"),
    ("Korea Standard Time", "Asia/Seoul"),
    ("Yakutsk Standard Time", "Asia/Yakutsk"),
    ("Cen. Australia Standard Time", "Australia/Adelaide"),
    ("AUS Central Standard Time", "Australia/Darwin"),
    ("E. Australia Standard Time", "Australia/Brisbane"),
    ("AUS Eastern Standard Time", "Australia/Sydney"),
    ("West Pacific Standard Time", "Pacific/Port_Moresby"),
    ("Tasmania Standard Time", "Australia/Hobart"),
    ("Vladivostok Standard Time", "Asia/Vladivostok"),
    ("Lord Howe Standard Time", "Australia/Lord_Howe"),
    ("Bougainville Standard Time", "Pacific/Bougainville"),
    ("Russia Time Zone 10", "Asia/Srednekolymsk"),
    ("Magadan Standard Time", "Asia/Magadan"),
    ("Norfolk Standard Time", "Pacific/Norfolk"),
    ("Sakhalin Standard Time", "Asia/Sakhalin"),
    ("Central Pacific Standard Time", "Pacific/Guadalcanal"),
    ("Russia Time Zone 11", "Asia/Kamchatka"),
    ("Kamchatka Standard Time", "Asia/Kamchatka"),
    ("New Zealand Standard Time", "Pacific/Auckland"),
    ("UTC+12", "Etc/GMT-12"),
    ("Fiji Standard Time", "Pacific/Fiji"),
    ("Chatham Islands Standard Time", "Pacific/Chatham"),
    ("UTC+13", "Etc/GMT-13"),
    ("Tonga Standard Time", "Pacific/Tongatapu"),
    ("Samoa Standard Time", "Pacific/Apia"),
    ("Line Islands Standard Time", "Pacific/Kiritimati"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_zone_exists() {
        for (windows, iana) in ZONES {
            assert!(TimeZone::get(iana).is_ok(), "{windows}: {iana}");
        }
    }

    #[test]
    fn iana_names_are_rejected_with_the_windows_name() {
        let suggests = |name: &str, windows: &str| {
            let why = zone(name).expect_err(name);
            assert!(why.contains(&format!("'{windows}'")), "{name}: {why}");
        };
        suggests("Europe/Berlin", "W. Europe Standard Time");
        suggests("europe/berlin", "W. Europe Standard Time");
        suggests("Europe/Vienna", "W. Europe Standard Time");
        suggests("Asia/Calcutta", "India Standard Time");
        suggests("Etc/UTC", "UTC");
        suggests("Europe/Berlim", "W. Europe Standard Time");
        suggests("Pacific Standart Time", "Pacific Standard Time");
        suggests("Atlantis", "Pacific Standard Time");
    }
}
