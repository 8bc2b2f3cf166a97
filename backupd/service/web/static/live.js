// Keeps an open page fresh. The page is whole without it: a reload shows the same.
"use strict";

(() => {
  const pauseMilliseconds = 2000;
  const live = document.getElementById("live");
  let version = Number(document.getElementById("main").dataset.version);
  let newest = version;
  let timer = 0;

  const say = (text) => { if (live.textContent !== text) live.textContent = text; };

  // Whoever types, selects or reads with a keyboard inside is not interrupted; the next event tries again.
  const isBusy = (main) => {
    const focus = document.activeElement;
    const inside = focus && focus !== main && main.contains(focus) && focus.matches("input, select, textarea, button");
    return inside || String(getSelection()) !== "" || document.hidden;
  };

  const refresh = async () => {
    timer = 0;
    const main = document.getElementById("main");
    if (newest <= version) return;
    if (isBusy(main)) { plan(); return; }
    const answer = await fetch(location.href, { headers: { accept: "text/html" } }).catch(() => null);
    if (!answer || !answer.ok) { say("The service does not answer; what is shown may be old."); plan(); return; }
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const next = fresh.getElementById("main");
    if (!next || isBusy(main)) { plan(); return; }
    const focused = main.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    next.querySelectorAll("details").forEach((one, number) => {
      const before = main.querySelectorAll("details")[number];
      if (before) one.open = before.open;
    });
    const [was, is] = [main, next].map((one) => one.querySelector("h1").textContent.trim());
    main.replaceWith(next);
    document.title = fresh.title;
    if (focused) {
      const again = [...next.querySelectorAll("a[href]")].find((one) => one.getAttribute("href") === focused);
      if (again) again.focus({ preventScroll: true });
    }
    version = Math.max(newest, Number(next.dataset.version));
    say(was === is ? "Live." : is);
  };

  const plan = () => { if (!timer) timer = setTimeout(refresh, pauseMilliseconds); };

  const events = new EventSource("/events");
  events.addEventListener("board", (event) => {
    const told = Number(event.data);
    if (told < version) version = -1; // the service was started anew
    newest = told;
    say("Live.");
    if (newest > version) plan();
  });
  events.addEventListener("error", () => say("Not live; reload to see what is new."));

  // Hover, focus or tap on the timeline tells what is there.
  const tell = (event) => {
    const what = event.target.closest && event.target.closest("[data-tell]");
    const place = document.getElementById("tell");
    if (what && place) place.textContent = what.dataset.tell;
  };
  for (const kind of ["pointerover", "focusin", "click"]) document.addEventListener(kind, tell);
})();
