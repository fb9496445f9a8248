//! The table of cultures. Each names what differs from the one it is built on.

use super::{Culture, DateOrder};

/// Every culture; of a language the main one comes first.
pub(super) static ALL: &[&Culture] = &[
    &INVARIANT, &EN_US, &EN_GB, &EN_AU, &EN_CA, &EN_IE, &EN_IN, &EN_NZ, &DE_DE, &DE_AT, &DE_CH, &FR_FR,
    &FR_BE, &FR_CA, &FR_CH, &ES_ES, &ES_MX, &IT_IT, &NL_NL, &NL_BE, &PT_BR, &PT_PT, &SV_SE, &DA_DK, &NB_NO,
    &FI_FI, &IS_IS, &PL_PL, &CS_CZ, &TR_TR, &JA_JP, &ZH_CN, &KO_KR,
];

pub(super) const EN_US: Culture = Culture {
    name: "en-US",
    decimal: ".",
    group: ",",
    groups: &[3],
    minus: "-",
    currency: "$",
    currency_digits: 2,
    currency_positive: "$n",
    currency_negative: "-$n",
    percent: "n$",
    months: [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ],
    months_short: ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"],
    days: ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"],
    days_short: ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"],
    am: "AM",
    pm: "PM",
    date_separator: "/",
    time_separator: ":",
    short_date: "M/d/yyyy",
    long_date: "dddd, MMMM d, yyyy",
    short_time: "h:mm tt",
    long_time: "h:mm:ss tt",
    month_day: "MMMM d",
    year_month: "MMMM yyyy",
    order: DateOrder::MonthDayYear,
};

pub(super) const INVARIANT: Culture = Culture {
    name: "",
    currency: "¤",
    currency_negative: "($n)",
    percent: "n $",
    short_date: "MM/dd/yyyy",
    long_date: "dddd, dd MMMM yyyy",
    short_time: "HH:mm",
    long_time: "HH:mm:ss",
    month_day: "MMMM dd",
    year_month: "yyyy MMMM",
    ..EN_US
};

const EN_GB: Culture = Culture {
    name: "en-GB",
    currency: "£",
    am: "am",
    pm: "pm",
    short_date: "dd/MM/yyyy",
    long_date: "dddd, d MMMM yyyy",
    short_time: "HH:mm",
    long_time: "HH:mm:ss",
    month_day: "d MMMM",
    order: DateOrder::DayMonthYear,
    ..EN_US
};

const EN_AU: Culture = Culture {
    name: "en-AU",
    currency: "$",
    short_date: "d/MM/yyyy",
    short_time: "h:mm tt",
    long_time: "h:mm:ss tt",
    ..EN_GB
};

const EN_CA: Culture = Culture {
    name: "en-CA",
    am: "a.m.",
    pm: "p.m.",
    date_separator: "-",
    short_date: "yyyy-MM-dd",
    order: DateOrder::YearMonthDay,
    ..EN_US
};

const EN_IE: Culture = Culture { name: "en-IE", currency: "€", ..EN_GB };

const EN_IN: Culture = Culture {
    name: "en-IN",
    groups: &[3, 2],
    currency: "₹",
    date_separator: "-",
    short_date: "dd-MM-yyyy",
    short_time: "h:mm tt",
    long_time: "h:mm:ss tt",
    ..EN_GB
};

const EN_NZ: Culture = Culture {
    name: "en-NZ",
    currency: "$",
    short_date: "d/MM/yyyy",
    short_time: "h:mm tt",
    long_time: "h:mm:ss tt",
    ..EN_GB
};

const DE_DE: Culture = Culture {
    name: "de-DE",
    decimal: ",",
    group: ".",
    currency: "€",
    currency_positive: "n\u{a0}$",
    currency_negative: "-n\u{a0}$",
    percent: "n\u{a0}$",
    months: [
        "Januar",
        "Februar",
        "März",
        "April",
        "Mai",
        "Juni",
        "Juli",
        "August",
        "September",
        "Oktober",
        "November",
        "Dezember",
    ],
    months_short: ["Jan", "Feb", "Mär", "Apr", "Mai", "Jun", "Jul", "Aug", "Sep", "Okt", "Nov", "Dez"],
    days: ["Sonntag", "Montag", "Dienstag", "Mittwoch", "Donnerstag", "Freitag", "Samstag"],
    days_short: ["So", "Mo", "Di", "Mi", "Do", "Fr", "Sa"],
    date_separator: ".",
    short_date: "dd.MM.yyyy",
    long_date: "dddd, d. MMMM yyyy",
    short_time: "HH:mm",
    long_time: "HH:mm:ss",
    month_day: "d. MMMM",
    order: DateOrder::DayMonthYear,
    ..EN_US
};

const DE_AT: Culture = Culture {
    name: "de-AT",
    group: "\u{a0}",
    currency_positive: "$\u{a0}n",
    currency_negative: "-$\u{a0}n",
    months: [
        "Jänner",
        "Februar",
        "März",
        "April",
        "Mai",
        "Juni",
        "Juli",
        "August",
        "September",
        "Oktober",
        "November",
        "Dezember",
    ],
    months_short: ["Jän", "Feb", "Mär", "Apr", "Mai", "Jun", "Jul", "Aug", "Sep", "Okt", "Nov", "Dez"],
    ..DE_DE
};

const DE_CH: Culture = Culture {
    name: "de-CH",
    decimal: ".",
    group: "’",
    currency: "CHF",
    currency_positive: "$\u{a0}n",
    currency_negative: "$-n",
    percent: "n$",
    ..DE_DE
};

const FR_FR: Culture = Culture {
    name: "fr-FR",
    group: "\u{a0}",
    months: [
        "janvier",
        "février",
        "mars",
        "avril",
        "mai",
        "juin",
        "juillet",
        "août",
        "septembre",
        "octobre",
        "novembre",
        "décembre",
    ],
    months_short: [
        "janv.", "févr.", "mars", "avr.", "mai", "juin", "juil.", "août", "sept.", "oct.", "nov.", "déc.",
    ],
    days: ["dimanche", "lundi", "mardi", "mercredi", "jeudi", "vendredi", "samedi"],
    days_short: ["dim.", "lun.", "mar.", "mer.", "jeu.", "ven.", "sam."],
    date_separator: "/",
    short_date: "dd/MM/yyyy",
    long_date: "dddd d MMMM yyyy",
    month_day: "d MMMM",
    ..DE_DE
};

const FR_BE: Culture = Culture { name: "fr-BE", date_separator: "-", short_date: "dd-MM-yy", ..FR_FR };

const FR_CA: Culture = Culture {
    name: "fr-CA",
    currency: "$",
    am: "a.m.",
    pm: "p.m.",
    date_separator: "-",
    short_date: "yyyy-MM-dd",
    order: DateOrder::YearMonthDay,
    ..FR_FR
};

const FR_CH: Culture =
    Culture { name: "fr-CH", currency: "CHF", date_separator: ".", short_date: "dd.MM.yyyy", ..FR_FR };

const ES_ES: Culture = Culture {
    name: "es-ES",
    months: [
        "enero",
        "febrero",
        "marzo",
        "abril",
        "mayo",
        "junio",
        "julio",
        "agosto",
        "septiembre",
        "octubre",
        "noviembre",
        "diciembre",
    ],
    months_short: [
        "ene.", "feb.", "mar.", "abr.", "may.", "jun.", "jul.", "ago.", "sep.", "oct.", "nov.", "dic.",
    ],
    days: ["domingo", "lunes", "martes", "miércoles", "jueves", "viernes", "sábado"],
    days_short: ["do.", "lu.", "ma.", "mi.", "ju.", "vi.", "sá."],
    am: "a. m.",
    pm: "p. m.",
    date_separator: "/",
    short_date: "dd/MM/yyyy",
    long_date: "dddd, d 'de' MMMM 'de' yyyy",
    short_time: "H:mm",
    long_time: "H:mm:ss",
    month_day: "d 'de' MMMM",
    year_month: "MMMM 'de' yyyy",
    ..DE_DE
};

const ES_MX: Culture = Culture {
    name: "es-MX",
    decimal: ".",
    group: ",",
    currency: "$",
    currency_positive: "$n",
    currency_negative: "-$n",
    percent: "n$",
    ..ES_ES
};

const IT_IT: Culture = Culture {
    name: "it-IT",
    percent: "n$",
    months: [
        "gennaio",
        "febbraio",
        "marzo",
        "aprile",
        "maggio",
        "giugno",
        "luglio",
        "agosto",
        "settembre",
        "ottobre",
        "novembre",
        "dicembre",
    ],
    months_short: ["gen", "feb", "mar", "apr", "mag", "giu", "lug", "ago", "set", "ott", "nov", "dic"],
    days: ["domenica", "lunedì", "martedì", "mercoledì", "giovedì", "venerdì", "sabato"],
    days_short: ["dom", "lun", "mar", "mer", "gio", "ven", "sab"],
    am: "",
    pm: "",
    date_separator: "/",
    short_date: "dd/MM/yyyy",
    long_date: "dddd d MMMM yyyy",
    month_day: "d MMMM",
    ..DE_DE
};

const NL_NL: Culture = Culture {
    name: "nl-NL",
    currency_positive: "$\u{a0}n",
    currency_negative: "$\u{a0}-n",
    percent: "n$",
    months: [
        "januari",
        "februari",
        "maart",
        "april",
        "mei",
        "juni",
        "juli",
        "augustus",
        "september",
        "oktober",
        "november",
        "december",
    ],
    months_short: ["jan", "feb", "mrt", "apr", "mei", "jun", "jul", "aug", "sep", "okt", "nov", "dec"],
    days: ["zondag", "maandag", "dinsdag", "woensdag", "donderdag", "vrijdag", "zaterdag"],
    days_short: ["zo", "ma", "di", "wo", "do", "vr", "za"],
    am: "",
    pm: "",
    date_separator: "-",
    short_date: "d-M-yyyy",
    long_date: "dddd d MMMM yyyy",
    month_day: "d MMMM",
    ..DE_DE
};

const NL_BE: Culture = Culture { name: "nl-BE", date_separator: "/", short_date: "d/MM/yyyy", ..NL_NL };

const PT_BR: Culture = Culture {
    name: "pt-BR",
    currency: "R$",
    currency_positive: "$\u{a0}n",
    currency_negative: "-$\u{a0}n",
    percent: "n$",
    months: [
        "janeiro",
        "fevereiro",
        "março",
        "abril",
        "maio",
        "junho",
        "julho",
        "agosto",
        "setembro",
        "outubro",
        "novembro",
        "dezembro",
    ],
    months_short: ["jan", "fev", "mar", "abr", "mai", "jun", "jul", "ago", "set", "out", "nov", "dez"],
    days: [
        "domingo",
        "segunda-feira",
        "terça-feira",
        "quarta-feira",
        "quinta-feira",
        "sexta-feira",
        "sábado",
    ],
    days_short: ["dom", "seg", "ter", "qua", "qui", "sex", "sáb"],
    am: "",
    pm: "",
    date_separator: "/",
    short_date: "dd/MM/yyyy",
    long_date: "dddd, d 'de' MMMM 'de' yyyy",
    month_day: "d 'de' MMMM",
    year_month: "MMMM 'de' yyyy",
    ..DE_DE
};

const PT_PT: Culture = Culture {
    name: "pt-PT",
    group: "\u{a0}",
    currency: "€",
    currency_positive: "n\u{a0}$",
    currency_negative: "-n\u{a0}$",
    ..PT_BR
};

const SV_SE: Culture = Culture {
    name: "sv-SE",
    group: "\u{a0}",
    currency: "kr",
    months: [
        "januari",
        "februari",
        "mars",
        "april",
        "maj",
        "juni",
        "juli",
        "augusti",
        "september",
        "oktober",
        "november",
        "december",
    ],
    months_short: [
        "jan.", "feb.", "mars", "apr.", "maj", "juni", "juli", "aug.", "sep.", "okt.", "nov.", "dec.",
    ],
    days: ["söndag", "måndag", "tisdag", "onsdag", "torsdag", "fredag", "lördag"],
    days_short: ["sön", "mån", "tis", "ons", "tors", "fre", "lör"],
    am: "fm",
    pm: "em",
    date_separator: "-",
    short_date: "yyyy-MM-dd",
    long_date: "dddd d MMMM yyyy",
    month_day: "d MMMM",
    order: DateOrder::YearMonthDay,
    ..DE_DE
};

const DA_DK: Culture = Culture {
    name: "da-DK",
    currency: "kr.",
    months: [
        "januar",
        "februar",
        "marts",
        "april",
        "maj",
        "juni",
        "juli",
        "august",
        "september",
        "oktober",
        "november",
        "december",
    ],
    months_short: [
        "jan.", "feb.", "mar.", "apr.", "maj", "jun.", "jul.", "aug.", "sep.", "okt.", "nov.", "dec.",
    ],
    days: ["søndag", "mandag", "tirsdag", "onsdag", "torsdag", "fredag", "lørdag"],
    days_short: ["søn.", "man.", "tirs.", "ons.", "tors.", "fre.", "lør."],
    am: "",
    pm: "",
    time_separator: ".",
    long_date: "dddd 'den' d. MMMM yyyy",
    ..DE_DE
};

const NB_NO: Culture = Culture {
    name: "nb-NO",
    group: "\u{a0}",
    currency: "kr",
    months: [
        "januar",
        "februar",
        "mars",
        "april",
        "mai",
        "juni",
        "juli",
        "august",
        "september",
        "oktober",
        "november",
        "desember",
    ],
    months_short: [
        "jan.", "feb.", "mars", "apr.", "mai", "juni", "juli", "aug.", "sep.", "okt.", "nov.", "des.",
    ],
    days: ["søndag", "mandag", "tirsdag", "onsdag", "torsdag", "fredag", "lørdag"],
    days_short: ["søn.", "man.", "tir.", "ons.", "tor.", "fre.", "lør."],
    am: "",
    pm: "",
    long_date: "dddd d. MMMM yyyy",
    ..DE_DE
};

const FI_FI: Culture = Culture {
    name: "fi-FI",
    group: "\u{a0}",
    months: [
        "tammikuu",
        "helmikuu",
        "maaliskuu",
        "huhtikuu",
        "toukokuu",
        "kesäkuu",
        "heinäkuu",
        "elokuu",
        "syyskuu",
        "lokakuu",
        "marraskuu",
        "joulukuu",
    ],
    months_short: [
        "tammi", "helmi", "maalis", "huhti", "touko", "kesä", "heinä", "elo", "syys", "loka", "marras",
        "joulu",
    ],
    days: ["sunnuntai", "maanantai", "tiistai", "keskiviikko", "torstai", "perjantai", "lauantai"],
    days_short: ["su", "ma", "ti", "ke", "to", "pe", "la"],
    am: "ap.",
    pm: "ip.",
    time_separator: ".",
    short_date: "d.M.yyyy",
    long_date: "dddd d. MMMM yyyy",
    short_time: "H:mm",
    long_time: "H:mm:ss",
    ..DE_DE
};

const IS_IS: Culture = Culture {
    name: "is-IS",
    currency: "kr",
    currency_positive: "n $",
    currency_negative: "-n $",
    percent: "n$",
    months: [
        "janúar",
        "febrúar",
        "mars",
        "apríl",
        "maí",
        "júní",
        "júlí",
        "ágúst",
        "september",
        "október",
        "nóvember",
        "desember",
    ],
    months_short: [
        "jan.", "feb.", "mar.", "apr.", "maí", "jún.", "júl.", "ágú.", "sep.", "okt.", "nóv.", "des.",
    ],
    days: [
        "sunnudagur",
        "mánudagur",
        "þriðjudagur",
        "miðvikudagur",
        "fimmtudagur",
        "föstudagur",
        "laugardagur",
    ],
    days_short: ["sun.", "mán.", "þri.", "mið.", "fim.", "fös.", "lau."],
    am: "f.h.",
    pm: "e.h.",
    short_date: "d.M.yyyy",
    ..DE_DE
};

const PL_PL: Culture = Culture {
    name: "pl-PL",
    group: "\u{a0}",
    currency: "zł",
    percent: "n$",
    months: [
        "styczeń",
        "luty",
        "marzec",
        "kwiecień",
        "maj",
        "czerwiec",
        "lipiec",
        "sierpień",
        "wrzesień",
        "październik",
        "listopad",
        "grudzień",
    ],
    months_short: ["sty", "lut", "mar", "kwi", "maj", "cze", "lip", "sie", "wrz", "paź", "lis", "gru"],
    days: ["niedziela", "poniedziałek", "wtorek", "środa", "czwartek", "piątek", "sobota"],
    days_short: ["niedz.", "pon.", "wt.", "śr.", "czw.", "pt.", "sob."],
    long_date: "dddd, d MMMM yyyy",
    month_day: "d MMMM",
    ..DE_DE
};

const CS_CZ: Culture = Culture {
    name: "cs-CZ",
    group: "\u{a0}",
    currency: "Kč",
    months: [
        "leden",
        "únor",
        "březen",
        "duben",
        "květen",
        "červen",
        "červenec",
        "srpen",
        "září",
        "říjen",
        "listopad",
        "prosinec",
    ],
    months_short: ["led", "úno", "bře", "dub", "kvě", "čvn", "čvc", "srp", "zář", "říj", "lis", "pro"],
    days: ["neděle", "pondělí", "úterý", "středa", "čtvrtek", "pátek", "sobota"],
    days_short: ["ne", "po", "út", "st", "čt", "pá", "so"],
    am: "dop.",
    pm: "odp.",
    long_date: "dddd d. MMMM yyyy",
    short_time: "H:mm",
    long_time: "H:mm:ss",
    ..DE_DE
};

const TR_TR: Culture = Culture {
    name: "tr-TR",
    currency: "₺",
    currency_positive: "$n",
    currency_negative: "-$n",
    percent: "$n",
    months: [
        "Ocak", "Şubat", "Mart", "Nisan", "Mayıs", "Haziran", "Temmuz", "Ağustos", "Eylül", "Ekim", "Kasım",
        "Aralık",
    ],
    months_short: ["Oca", "Şub", "Mar", "Nis", "May", "Haz", "Tem", "Ağu", "Eyl", "Eki", "Kas", "Ara"],
    days: ["Pazar", "Pazartesi", "Salı", "Çarşamba", "Perşembe", "Cuma", "Cumartesi"],
    days_short: ["Paz", "Pzt", "Sal", "Çar", "Per", "Cum", "Cmt"],
    am: "ÖÖ",
    pm: "ÖS",
    short_date: "d.MM.yyyy",
    long_date: "d MMMM yyyy dddd",
    month_day: "d MMMM",
    ..DE_DE
};

const JA_JP: Culture = Culture {
    name: "ja-JP",
    currency: "￥",
    currency_digits: 0,
    months: ["1月", "2月", "3月", "4月", "5月", "6月", "7月", "8月", "9月", "10月", "11月", "12月"],
    months_short: ["1月", "2月", "3月", "4月", "5月", "6月", "7月", "8月", "9月", "10月", "11月", "12月"],
    days: ["日曜日", "月曜日", "火曜日", "水曜日", "木曜日", "金曜日", "土曜日"],
    days_short: ["日", "月", "火", "水", "木", "金", "土"],
    am: "午前",
    pm: "午後",
    short_date: "yyyy/MM/dd",
    long_date: "yyyy年M月d日dddd",
    short_time: "H:mm",
    long_time: "H:mm:ss",
    month_day: "M月d日",
    year_month: "yyyy年M月",
    order: DateOrder::YearMonthDay,
    ..EN_US
};

const ZH_CN: Culture = Culture {
    name: "zh-CN",
    currency: "¥",
    currency_digits: 2,
    months: [
        "一月",
        "二月",
        "三月",
        "四月",
        "五月",
        "六月",
        "七月",
        "八月",
        "九月",
        "十月",
        "十一月",
        "十二月",
    ],
    days: ["星期日", "星期一", "星期二", "星期三", "星期四", "星期五", "星期六"],
    days_short: ["周日", "周一", "周二", "周三", "周四", "周五", "周六"],
    am: "上午",
    pm: "下午",
    short_date: "yyyy/M/d",
    short_time: "HH:mm",
    long_time: "HH:mm:ss",
    ..JA_JP
};

const KO_KR: Culture = Culture {
    name: "ko-KR",
    currency: "₩",
    months: ["1월", "2월", "3월", "4월", "5월", "6월", "7월", "8월", "9월", "10월", "11월", "12월"],
    months_short: ["1월", "2월", "3월", "4월", "5월", "6월", "7월", "8월", "9월", "10월", "11월", "12월"],
    days: ["일요일", "월요일", "화요일", "수요일", "목요일", "금요일", "토요일"],
    days_short: ["일", "월", "화", "수", "목", "금", "토"],
    am: "오전",
    pm: "오후",
    date_separator: ". ",
    short_date: "yyyy. M. d.",
    long_date: "yyyy년 M월 d일 dddd",
    short_time: "tt h:mm",
    long_time: "tt h:mm:ss",
    month_day: "M월 d일",
    year_month: "yyyy년 M월",
    ..JA_JP
};
