import js from '@eslint/js';
import { defineConfig } from 'eslint/config';
import tseslint from 'typescript-eslint';
import { rules } from './eslint.shared.mjs';

export default defineConfig(rules(import.meta.dirname, { js, tseslint }));
