import js from '@eslint/js';
import { defineConfig } from 'eslint/config';
import tseslint from 'typescript-eslint';

export default defineConfig(
  { ignores: ['node_modules', 'coverage', 'dist'] },
  js.configs.recommended,
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.strictTypeChecked, tseslint.configs.stylisticTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      // Numbers in template strings are what messages and paths consist of.
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      // An index signature states that any name may come.
      '@typescript-eslint/consistent-indexed-object-style': 'off',
      // A field set in the constructor's signature is read at its declaration.
      '@typescript-eslint/parameter-properties': 'off',
    },
  },
  {
    files: ['**/*.mjs'],
    languageOptions: { globals: { process: 'readonly', console: 'readonly', URL: 'readonly' } },
  },
);
