/** The style of the web pages' scripts. The tools lie in the folder that git ignores. */

import { createRequire } from "node:module";

const require = createRequire(new URL("../../.comfyui/node/package.json", import.meta.url));
const js = require("@eslint/js");
const globals = require("globals");

const WITHOUT_COMMENTS = { skipBlankLines: true, skipComments: true };
const STATE = "belongs to an object that the entry module of a page creates.";

export default [
  js.configs.recommended,
  {
    languageOptions: { ecmaVersion: 2022, sourceType: "module", globals: globals.browser },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      // It counts each `??` and `?.` too.
      complexity: ["error", 12],
      eqeqeq: "error",
      "max-depth": ["error", 3],
      "max-lines": ["error", { max: 300, ...WITHOUT_COMMENTS }],
      "max-lines-per-function": ["error", { max: 40, ...WITHOUT_COMMENTS }],
      "max-params": ["error", 5],
      "no-restricted-syntax": [
        "error",
        {
          selector: ":matches(Program, ExportNamedDeclaration) > VariableDeclaration[kind!='const']",
          message: `A variable of a module is state, which ${STATE}`,
        },
        {
          selector:
            ":matches(Program, ExportNamedDeclaration) > VariableDeclaration > VariableDeclarator > " +
            "NewExpression[callee.name!='RegExp'][callee.name!='URL']",
          message: `An object of a module can change: it ${STATE}`,
        },
        {
          selector:
            ":matches(Program, ExportNamedDeclaration) > VariableDeclaration > VariableDeclarator > " +
            "ArrayExpression[elements.length=0]",
          message: `A list of a module that is filled later ${STATE}`,
        },
      ],
      "no-unused-vars": ["error", { ignoreRestSiblings: true }],
      "no-var": "error",
      "prefer-const": "error",
    },
  },
];
