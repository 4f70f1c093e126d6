// The list of videos: a click chooses one; times are those of the visitor's own clock.
const named = (at) => {
  const then = new Date(1000 * at);
  const today = then.toDateString() === new Date().toDateString();
  const options = today ? {hour: "2-digit", minute: "2-digit"} : {day: "numeric", month: "short", hour: "2-digit", minute: "2-digit"};
  return then.toLocaleString([], options);
};

let focused = "";
const fill = () => {
  for (const time of element.querySelectorAll("time[data-at]")) {
    const at = Number(time.dataset.at);
    time.dateTime = new Date(1000 * at).toISOString();
    time.textContent = named(at);
  }
  if (focused) element.querySelector(`[data-job="${focused}"]`)?.focus();
};

element.addEventListener("click", (event) => {
  const entry = event.target.closest("[data-job]");
  if (!entry) return;
  focused = entry.dataset.job;
  trigger("select", {job: focused});
});
element.addEventListener("focusin", (event) => (focused = event.target.dataset.job || ""));
document.addEventListener("focusin", (event) => {
  if (!element.contains(event.target)) focused = "";
});
watch("value", fill);
fill();
