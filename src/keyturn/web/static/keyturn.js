// Small things that HTML cannot do. Every page works without it, only less conveniently.
(() => {
  "use strict";

  // The viewer's time zone, so that the hub can write dates in it.
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "";
  const known = document.cookie.split("; ").find((each) => each.startsWith("keyturn-zone="));
  if (zone && (!known || decodeURIComponent(known.slice(13)) !== zone)) {
    document.cookie = `keyturn-zone=${encodeURIComponent(zone)}; path=/; max-age=31536000; samesite=lax`;
    const stuck = document.cookie.includes("keyturn-zone=");
    if (stuck && document.querySelector("time")) location.reload();
  }

  // A one-time code comes behind the # of its link, which browsers send to nobody.
  const code = document.querySelector("input[data-from-link]");
  const take = () => {
    if (!code || location.hash.length <= 20) return;
    code.value = location.hash.slice(1);
    code.closest(".field").hidden = true;
    history.replaceState(null, "", location.pathname);
    const next = document.querySelector("form input:not([type=hidden]):not([data-from-link])");
    if (next) next.focus();
  };
  take();
  addEventListener("hashchange", take);

  // On a phone the navigation is a strip: it begins where one is.
  const here = document.querySelector(".nav [aria-current]");
  if (here) here.closest(".nav").scrollLeft = here.offsetLeft - innerWidth / 3;

  // Menus: one at a time; Escape and a click elsewhere close them.
  const menus = () => document.querySelectorAll("details.menu[open]");
  document.addEventListener("click", (event) => {
    for (const menu of menus()) if (!menu.contains(event.target)) menu.open = false;
  });
  document.addEventListener("keydown", (event) => {
    const menu = event.target.closest && event.target.closest("details.menu[open]");
    if (event.key === "Escape") {
      for (const each of menus()) {
        each.open = false;
        if (each === menu) each.querySelector("summary").focus();
      }
    } else if (menu && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      const items = [...menu.querySelectorAll("a, button")];
      const at = items.indexOf(document.activeElement);
      const to = event.key === "ArrowDown" ? at + 1 : at < 0 ? items.length - 1 : at - 1;
      items[(to + items.length) % items.length].focus();
      event.preventDefault();
    }
  });

  // Passkeys: the device is asked first, then the form goes with its answer.
  const hasPasskeys = window.PublicKeyCredential && PublicKeyCredential.parseRequestOptionsFromJSON;
  for (const form of document.querySelectorAll("form[data-passkey]")) {
    if (!hasPasskeys) continue;
    form.hidden = false;
    form.addEventListener("submit", async (event) => {
      const answer = form.elements.answer;
      if (answer.value) return;
      event.preventDefault();
      event.stopPropagation();
      const problem = form.querySelector("[data-problem]");
      problem.textContent = "";
      try {
        const options = JSON.parse(form.dataset.options);
        const made =
          form.dataset.passkey === "get"
            ? await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(options) })
            : await navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(options) });
        answer.value = JSON.stringify(made.toJSON());
        form.requestSubmit();
      } catch (error) {
        problem.textContent = error.name === "InvalidStateError" ? "This device has one for you already." : "Nothing was used. Try again, or sign in with your password.";
      }
    });
  }

  // A form is sent once.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post" || "again" in form.dataset) return;
    if (form.dataset.sent) return event.preventDefault();
    form.dataset.sent = "yes";
    for (const button of form.querySelectorAll("button")) button.setAttribute("aria-busy", "true");
  });
  addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("form[data-sent]")) {
      delete form.dataset.sent;
      for (const button of form.querySelectorAll("[aria-busy]")) button.removeAttribute("aria-busy");
    }
  });

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const from = document.getElementById(button.dataset.copy);
    await navigator.clipboard.writeText("value" in from ? from.value : from.textContent.trim());
    say(button.dataset.copied || "Copied");
    const before = button.textContent;
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = before), 1500);
  });
  for (const button of document.querySelectorAll("[data-print]")) button.addEventListener("click", () => print());
  for (const field of document.querySelectorAll("select[data-send]")) {
    field.addEventListener("change", () => field.form.requestSubmit());
  }

  // Live: the hub says that something changed, and the region is fetched anew. Never under somebody's hands.
  const said = document.getElementById("said");
  const say = (text) => {
    if (said && text && said.textContent !== text) said.textContent = text;
  };
  const place = document.querySelector("[data-live]");
  if (!place || !window.EventSource || !window.htmx) return;
  let waiting = false;
  const region = () => document.getElementById("live");
  const isBusy = () => {
    const here = region();
    if (!here) return false;
    const at = document.activeElement;
    return here.querySelector("details.menu[open], .tick input:checked") || (here.contains(at) && /^(INPUT|SELECT|TEXTAREA)$/.test(at.tagName));
  };
  const refresh = () => {
    if (isBusy() || document.hidden) return void (waiting = true);
    waiting = false;
    htmx.trigger(document.body, "keyturn:changed");
  };
  const again = () => waiting && setTimeout(() => waiting && refresh(), 50);
  document.addEventListener("toggle", again, true);
  document.addEventListener("focusout", again);
  document.addEventListener("change", again);
  document.addEventListener("visibilitychange", again);
  const source = new EventSource(place.dataset.live);
  source.addEventListener("changed", refresh);
  source.addEventListener("over", () => {
    source.close();
    location.reload();
  });
  source.addEventListener("open", () => document.body.classList.remove("offline"));
  source.addEventListener("error", () => document.body.classList.add("offline"));
  addEventListener("pagehide", () => source.close());
  document.body.addEventListener("htmx:afterSettle", () => say(region() && region().dataset.said));
})();
