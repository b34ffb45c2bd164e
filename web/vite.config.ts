// Build, development server and unit tests.
//
// Assets are never inlined: the gateway's Content-Security-Policy (default-src 'self') forbids data: URLs.
// `npm run dev` forwards the API to FEATURESCOPE_URL (default http://127.0.0.1:8080).
import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

const api = process.env["FEATURESCOPE_URL"] ?? "http://127.0.0.1:8080";

export default defineConfig({
  plugins: [react()],
  build: {
    target: ["chrome123", "firefox120", "safari17.5"],
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 700,
  },
  server: { proxy: { "^/featurescope\\.v1\\..*": { target: api } } },
  test: {
    environment: "happy-dom",
    include: ["src/**/*.test.{ts,tsx}"],
    css: { modules: { classNameStrategy: "non-scoped" } },
  },
});
