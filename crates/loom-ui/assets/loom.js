// Makes the pages live: asks for a page again when there is news, and replaces what has changed, by ids.
// Everything works without this script, but a page then changes only when it is loaded again.
'use strict';
(() => {
  const root = document.documentElement;
  const THEMES = ['system', 'light', 'dark'];

  // The choice of a theme is kept by the browser; without storage it lasts as long as the page.
  const stored = () => {
    try { return localStorage.getItem('loom-theme') || 'system'; } catch { return 'system'; }
  };
  const wear = (theme) => {
    if (theme === 'system') { delete root.dataset.theme; } else { root.dataset.theme = theme; }
  };
  wear(stored());

  const themeButton = () => {
    const button = document.getElementById('theme');
    if (!button) return;
    let theme = stored();
    const show = () => { button.textContent = 'Theme: ' + theme; };
    button.hidden = false;
    show();
    button.addEventListener('click', () => {
      theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
      try { localStorage.setItem('loom-theme', theme); } catch { /* it lasts as long as the page */ }
      wear(theme);
      show();
    });
  };

  // What is being typed, opened or selected must not be replaced.
  const isBusy = (element) => {
    const active = document.activeElement;
    const typing = active && element.contains(active) && active.matches('input, textarea, select');
    const selection = getSelection();
    const selecting = selection && !selection.isCollapsed && element.contains(selection.anchorNode);
    return typing || selecting || element.querySelector('details[open]') !== null;
  };

  // A path to the focused element below `element`, to find its successor.
  const focusIn = (element) => {
    const active = document.activeElement;
    if (!active || active === element || !element.contains(active)) return null;
    const holder = active.closest('[id]');
    const href = active.getAttribute('href');
    return () => {
      const same = href && [...document.querySelectorAll('a')].find((link) => link.getAttribute('href') === href);
      const next = same || (holder && document.getElementById(holder.id));
      if (next) next.focus({ preventScroll: true });
    };
  };

  const swap = (old, fresh) => {
    if (old.outerHTML === fresh.outerHTML || isBusy(old)) return;
    const refocus = focusIn(old);
    const scrolled = [...old.querySelectorAll('.scroll, pre')].map((part) => [part.scrollLeft, part.scrollTop]);
    const top = [old.scrollLeft, old.scrollTop];
    const replacement = document.importNode(fresh, true);
    old.replaceWith(replacement);
    [replacement.scrollLeft, replacement.scrollTop] = top;
    [...replacement.querySelectorAll('.scroll, pre')].forEach((part, at) => {
      if (scrolled[at]) [part.scrollLeft, part.scrollTop] = scrolled[at];
    });
    if (refocus) refocus();
  };

  // The nodes of a graph are replaced one by one; if it is another graph, as a whole.
  const swapParts = (old, fresh) => {
    const ids = (element) => [...element.querySelectorAll('[id]')].map((part) => part.id);
    const known = ids(old);
    if (known.join() !== ids(fresh).join()) { swap(old, fresh); return; }
    const parts = new Map([...fresh.querySelectorAll('[id]')].map((part) => [part.id, part]));
    for (const part of [...old.querySelectorAll('[id]')]) {
      if (part.isConnected && parts.has(part.id)) swap(part, parts.get(part.id));
    }
  };

  let asking = false;
  let again = false;

  const refresh = async () => {
    if (asking) { again = true; return; }
    asking = true;
    const begun = performance.now();
    let isLive = true;
    try {
      const response = await fetch(location.href, { headers: { accept: 'text/html' }, redirect: 'error' });
      if (response.ok) {
        const page = new DOMParser().parseFromString(await response.text(), 'text/html');
        for (const fresh of page.querySelectorAll('[data-swap][id]')) {
          const old = document.getElementById(fresh.id);
          if (old) swap(old, fresh);
        }
        for (const fresh of page.querySelectorAll('[data-swap-parts][id]')) {
          const old = document.getElementById(fresh.id);
          if (old) swapParts(old, fresh);
        }
        document.title = page.title;
        isLive = page.getElementById('main')?.dataset.live !== undefined;
        root.classList.remove('stale');
      }
    } catch {
      root.classList.add('stale');
    }
    // A slow page is asked for less often.
    const rest = Math.max(500, 3 * (performance.now() - begun));
    setTimeout(() => {
      asking = false;
      if (again) { again = false; refresh(); }
    }, rest);
    return isLive;
  };

  const poll = (millis) => {
    const tick = async () => {
      if (document.visibilityState === 'visible') await refresh();
      setTimeout(tick, millis);
    };
    setTimeout(tick, millis);
    document.addEventListener('visibilitychange', () => {
      if (document.visibilityState === 'visible') refresh();
    });
  };

  // The API's stream of events. The browser connects again by itself; the stream of an ended run is not opened again.
  const watch = (address) => {
    const source = new EventSource(address);
    let ended = false;
    const news = (event) => {
      if (event.type === 'run.completed') ended = true;
      refresh();
    };
    source.onmessage = news;
    for (const type of (document.getElementById('main').dataset.events || '').split(' ').filter(Boolean)) {
      source.addEventListener(type, news);
    }
    source.onopen = () => root.classList.remove('stale');
    source.onerror = () => {
      if (ended || source.readyState === EventSource.CLOSED) { source.close(); refresh(); return; }
      root.classList.add('stale');
    };
  };

  const copyFields = () => {
    for (const field of document.querySelectorAll('[data-copy]')) {
      field.addEventListener('focus', () => field.select());
    }
  };

  // A definition is checked while it is typed: the form is sent to the address of its check, and only what it says is shown.
  const checked = () => {
    for (const field of document.querySelectorAll('textarea[data-check]')) {
      let timer = 0;
      let latest = 0;
      const check = async () => {
        const own = latest += 1;
        try {
          const response = await fetch(field.dataset.check, { method: 'POST', body: new URLSearchParams(new FormData(field.form)) });
          const page = new DOMParser().parseFromString(await response.text(), 'text/html');
          const [old, fresh] = [document.getElementById('diagnostics'), page.getElementById('diagnostics')];
          if (own === latest && old && fresh && old.innerHTML !== fresh.innerHTML) {
            old.replaceChildren(...document.importNode(fresh, true).childNodes);
          }
        } catch { /* the button checks it, too */ }
      };
      field.addEventListener('input', () => { clearTimeout(timer); timer = setTimeout(check, 600); });
    }
  };

  // One question is open at a time, and Escape closes it.
  const questions = () => {
    document.addEventListener('keydown', (event) => {
      if (event.key !== 'Escape') return;
      for (const open of document.querySelectorAll('details.confirm[open]')) {
        open.open = false;
        open.querySelector('summary').focus();
      }
    });
    document.addEventListener('toggle', (event) => {
      if (!event.target.open || !event.target.matches('details.confirm')) return;
      for (const other of document.querySelectorAll('details.confirm[open]')) {
        if (other !== event.target) other.open = false;
      }
    }, true);
  };

  document.addEventListener('DOMContentLoaded', () => {
    themeButton();
    copyFields();
    questions();
    checked();
    const live = document.getElementById('main')?.dataset.live;
    if (!live) return;
    if (/^\d+$/.test(live)) { poll(Number(live)); } else { watch(live); }
  });
})();
