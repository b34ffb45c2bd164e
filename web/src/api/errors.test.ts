import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { Code, ConnectError } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";

import { describeError, readViolations, violationOf, wasAborted } from "./errors";

function badRequest(...violations: [string, string][]): Uint8Array {
  const writer = new BinaryWriter();
  for (const [field, description] of violations) {
    writer.tag(1, WireType.LengthDelimited).fork();
    writer.tag(1, WireType.LengthDelimited).string(field);
    writer.tag(2, WireType.LengthDelimited).string(description);
    writer.tag(3, WireType.LengthDelimited).string("a later field");
    writer.join();
  }
  return writer.finish();
}

function rejected(value: Uint8Array): ConnectError {
  const error = new ConnectError("k: 5000 is out of range [1, 4096]", Code.InvalidArgument);
  error.details.push({ type: "google.rpc.BadRequest", value });
  return error;
}

describe("errors", () => {
  it("shows the server's own words", () => {
    const { title, message } = describeError(new ConnectError("feature 70000 is out of range [0, 24576)", Code.InvalidArgument));
    expect(message).toBe("feature 70000 is out of range [0, 24576)");
    expect(title).toBe("The request was not accepted");
  });

  it("reads which fields were wrong, and skips what it does not know", () => {
    const described = describeError(rejected(badRequest(["spec.k", "too large"], ["spec.tokens", "missing"])));
    expect(violationOf(described, "k")).toBe("too large");
    expect(violationOf(described, "tokens")).toBe("missing");
    expect(violationOf(described, "ens")).toBeUndefined();
  });

  it("keeps the message when the details are garbage", () => {
    const described = describeError(rejected(new Uint8Array([0x0a, 0xff, 0x01])));
    expect(described.violations).toEqual([]);
    expect(described.message).toContain("5000");
    expect(() => readViolations(new Uint8Array([0x0a, 0xff]))).toThrow();
  });

  it("knows an abort, also as the browser names it", () => {
    expect(wasAborted(new ConnectError("x", Code.Canceled))).toBe(true);
    expect(wasAborted(new DOMException("x", "AbortError"))).toBe(true);
    const controller = new AbortController();
    controller.abort();
    expect(wasAborted(new Error("x"), controller.signal)).toBe(true);
    expect(wasAborted(new Error("x"))).toBe(false);
  });

  it("says that the server cannot be reached", () => {
    expect(describeError(new TypeError("Failed to fetch")).title).toBe("The server cannot be reached");
  });
});
