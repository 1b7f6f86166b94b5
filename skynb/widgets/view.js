// What every explorer is in the page: a labelled group that takes keys, and that brings BokehJS
// along where the page has none yet, before its pictures are made.

function bokeh(model) {
  if (window.Bokeh) return Promise.resolve();
  window.skynbBokeh ??= new Promise((resolve, reject) => {
    model.on("msg:custom", (message) => {
      if (message.bokeh === undefined || window.Bokeh) return;
      const script = document.createElement("script");
      script.textContent = message.bokeh;
      document.head.append(script);
      resolve();
    });
    model.send({ ask: "bokeh" });
    setTimeout(() => {
      window.skynbBokeh = undefined;
      reject(new Error("no answer from the kernel"));
    }, 20_000);
  });
  return window.skynbBokeh;
}

// What pictures showed when they were made is all that their models know; the kernel knows better.
function refreshed(model) {
  return new Promise((resolve) => {
    const done = (message) => {
      if (message.pictures === undefined) return;
      model.off("msg:custom", done);
      resolve();
    };
    model.on("msg:custom", done);
    model.send({ ask: "pictures" });
    setTimeout(resolve, 5_000);
  });
}

// A picture tells the kernel also what it has just heard from it; coming back upon a newer state,
// that would undo it. Bokeh marks such events, so that they can be left out.
async function withoutEcho(view) {
  const tell = view._change_event;
  if (tell) view._change_event = (event) => event.sync !== false && tell.call(view, event);
  for (const each of view.children_views?.views ?? []) await withoutEcho(await each);
}

async function render({ model, el }) {
  const describe = () => {
    el.setAttribute("aria-label", model.get("description"));
    el.dataset.name = model.get("name");
  };
  describe();
  model.on("change:description change:name", describe);
  el.classList.add("skynb-view");
  el.setAttribute("role", "group");
  el.tabIndex = 0;
  // JupyterLab's plain keys delete and cut cells; those with Ctrl, as to save, stay its own. It
  // asks the element that has the focus, before a key gets here: so it is told at the focus, and
  // again when Ctrl goes down and up.
  const shield = (event) => {
    if (!el.contains(event.target)) return;
    const other = event.ctrlKey || event.metaKey || event.altKey;
    for (const each of [el, event.target]) {
      if (other) delete each.dataset.lmSuppressShortcuts;
      else each.dataset.lmSuppressShortcuts = "true";
    }
  };
  const told = ["focusin", "keydown", "keyup"];
  for (const type of told) window.addEventListener(type, shield, true);
  const unshield = () => {
    for (const type of told) window.removeEventListener(type, shield, true);
  };
  el.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input:not([type=checkbox]), textarea, select, [contenteditable]");
    const other = event.ctrlKey || event.metaKey || event.altKey;
    const own = "button, [role=button], input[type=checkbox]";
    const pressing = event.target.matches(own) && [" ", "Enter"].includes(event.key);
    if (typing || pressing || other || !model.get("hotkeys").includes(event.key)) return;
    event.preventDefault();
    event.stopPropagation();
    model.send({ key: event.key });
  });
  try {
    await bokeh(model);
    await refreshed(model);
  } catch {
    unshield();
    el.textContent = "This explorer has no kernel: run its cell again.";
    return;
  }
  const id = model.get("child").slice("IPY_MODEL_".length);
  const view = await model.widget_manager.create_view(await model.widget_manager.get_model(id));
  await withoutEcho(view);
  const tell = (type) => view.luminoWidget.processMessage({ type });
  tell("before-attach");
  el.append(view.el);
  tell("after-attach");
  return () => {
    unshield();
    tell("before-detach");
    view.remove();
  };
}

export default { render };
