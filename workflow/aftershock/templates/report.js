(function () {
  "use strict";
  var switches = document.querySelector(".switches");
  var panels = Array.prototype.slice.call(document.querySelectorAll(".panel"));
  function chosen(name) {
    return document.querySelector("input[name=" + name + "]:checked").value;
  }
  function show() {
    panels.forEach(function (panel) {
      var data = panel.dataset;
      var other = data.definition && data.definition !== chosen("definition");
      panel.hidden = data.subset !== chosen("subset") || other;
    });
  }
  switches.hidden = false;
  switches.addEventListener("change", show);
  show();
})();
