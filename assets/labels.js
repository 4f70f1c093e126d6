// Some of Gradio's buttons have a name for screen readers that differs from what is written on them, so that nobody who
// speaks what they see can press them. Their text is the better name.
const NAMED_OTHERWISE = "button.upload-container[aria-label], button.playback[aria-label]";
const mend = () => document.querySelectorAll(NAMED_OTHERWISE).forEach((button) => button.removeAttribute("aria-label"));
new MutationObserver(mend).observe(document.body, {childList: true, subtree: true});
mend();
