import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";

import { JobSchema, JobState } from "../../gen/featurescope/v1/jobs_pb.js";
import { progressText } from "./JobState";
import { briefOf, specRows } from "./spec";

const job = create(JobSchema, {
  id: "01",
  state: JobState.RUNNING,
  phase: "downloading",
  progress: 0.4,
  transfer: { bytesDone: 2n ** 30n, bytesTotal: 3n * 2n ** 30n, bytesPerSecond: 2 ** 20, filesDone: 1, filesTotal: 5 },
  spec: { case: "importing", value: { what: { case: "sae", value: { source: "rel/id", saeId: "mine", centerWritingWeights: true } } } },
});

describe("an import job", () => {
  it("tells bytes, files and speed", () => {
    const text = progressText(job).replaceAll("\u202f", " ");
    expect(text).toBe("downloading · 40 % · 1.00 GiB of 3.00 GiB · file 2 of 5 · 1.00 MiB/s");
  });

  it("never counts a file that is not there", () => {
    const all = { ...job, transfer: { ...job.transfer!, filesDone: 5 } };
    expect(progressText(all)).toContain("file 5 of 5");
  });

  it("is named after what it makes", () => {
    expect(briefOf(job)).toEqual({ kind: "Pulling", subject: "mine", detail: "SAE rel/id" });
    expect(specRows(job)).toContainEqual(["Centred", "yes"]);
  });
});
