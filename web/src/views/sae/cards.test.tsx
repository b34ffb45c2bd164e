import { create } from "@bufbuild/protobuf";
import * as Tooltip from "@radix-ui/react-tooltip";
import { renderToStaticMarkup } from "react-dom/server";
import { describe, expect, it } from "vitest";

import { SaeSchema } from "../../gen/featurescope/v1/catalog_pb.js";
import { CheckSaeResponse_Verdict, CheckSaeResponseSchema } from "../../gen/featurescope/v1/explore_pb.js";
import { Result } from "./CheckCard";
import { RecognisedCard, recognisedRows } from "./RecognisedCard";

describe("what was recognised", () => {
  const sae = create(SaeSchema, {
    format: "SAELens 6.18.0",
    architecture: "topk",
    activation: "the 32 largest of a token",
    normalizeActivations: "none",
    hookName: "blocks.3.hook_resid_post",
    hookNameOut: "blocks.3.hook_resid_post",
    trainedOn: "gpt2-small",
    warnings: ["look at me"],
    folds: ["input scale 0.37"],
    notes: ["read by its threshold"],
  });

  it("says what the files leave open, and nothing that does not apply", () => {
    const rows = new Map(recognisedRows(sae));
    expect(rows.get("Architecture")).toBe("topk: the 32 largest of a token");
    expect(rows.get("BOS")).toBe("the files do not say");
    expect(rows.get("Context")).toBe("the files do not say");
    expect(rows.get("Writes")).toBe("");
    expect(new Map(recognisedRows({ ...sae, prependBosKnown: true })).get("BOS")).toBe("contexts without it");
  });

  it("shows where a transcoder writes", () => {
    expect(new Map(recognisedRows({ ...sae, hookNameOut: "blocks.3.hook_mlp_out" })).get("Writes")).toBe("blocks.3.hook_mlp_out");
  });

  it("leaves out no warning, fold or note", () => {
    const html = renderToStaticMarkup(<RecognisedCard sae={sae} />);
    for (const text of ["look at me", "Folded into the weights: input scale 0.37", "read by its threshold"]) expect(html).toContain(text);
  });
});

describe("a check's result", () => {
  it("gives the verdict in a word and every finding", () => {
    const result = create(CheckSaeResponseSchema, {
      verdict: CheckSaeResponse_Verdict.DOES_NOT_FIT,
      asBound: { explainedVariance: -1.5, l0: 900, normRatio: 3, cosine: 0.1 },
      findings: ["explained variance is -1.5", "likely cause: another hook point"],
      nTokens: 512n,
      nTried: 12,
    });
    const html = renderToStaticMarkup(
      <Tooltip.Provider>
        <Result result={result} />
      </Tooltip.Provider>,
    );
    for (const text of ["does not fit", "−1.50", "likely cause: another hook point", "12 other bindings"]) expect(html).toContain(text);
  });
});
